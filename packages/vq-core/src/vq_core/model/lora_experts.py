"""Which of a model's transformers each LoRA is for: as it is asked, and as its files say."""

import logging
from collections.abc import Collection, Iterable
from dataclasses import replace
from itertools import combinations
from pathlib import Path

from vq_core.errors import VqError
from vq_core.files.given_file import is_there
from vq_core.files.tensor_file import open_header
from vq_core.files.tensor_folder import INDEX_FILE, is_shard
from vq_core.model.expert_names import EXPERTS, expert_of
from vq_core.model.lora_file import Lora
from vq_core.model.lora_request import LoraRequest
from vq_core.remote.transfer import local_copy

logger = logging.getLogger(__name__)


def open_loras(requests: Iterable[LoraRequest], components: Collection[str], model: str) -> list[Lora]:
    """The LoRAs of `requests`, for a model called `model` with these `components`.

    A folder with one LoRA for each expert, as distillations of Wan2.2 come, is one LoRA for each.

    Raises:
        VqError: a LoRA is for a transformer that the model lacks, is damaged, or is one of several in a folder.
    """
    opened = []
    for request in requests:
        if request.component not in (None, *components):
            raise VqError(
                f"`--lora {request}` is for {request.component}, and {model} has {' and '.join(components)}: "
                "name one of these, or none for all."
            )
        opened += [Lora(it, model) for it in _by_expert(request, components, model)]
    for lora in opened:
        _require_some_keys(lora, components, model)
        _tell_expert(lora, components)
    return opened


def _by_expert(request: LoraRequest, components: Collection[str], model: str) -> list[LoraRequest]:
    """The `request` itself or, for a folder with two LoRAs, one request for each expert's."""
    if request.path.name.endswith(".safetensors"):
        return [request]
    files = _lora_files(local_copy(request.path))
    by_expert = {expert_of(path): path for path in files}
    if len(files) != len(EXPERTS) or set(by_expert) != set(EXPERTS.values()):
        if twice := _same_key(files):
            raise VqError(
                f"{request.path} holds several LoRAs ({', '.join(path.name for path in files)}; `{twice}` is in two of "
                "them): give one file or, for two experts, `--lora transformer=FILE` and `--lora transformer_2=FILE`."
            )
        return [request]
    if not set(EXPERTS.values()) <= set(components):
        raise VqError(
            f"{request.path} holds a LoRA for each of two experts, and {model} has {' and '.join(components)} alone: "
            f"give the file for it, {files[0].name} or {files[1].name}."
        )
    asked = EXPERTS.values() if request.component is None else [request.component]
    return [replace(request, path=by_expert[component], component=component) for component in asked]


def _lora_files(folder: Path) -> list[Path]:
    """The safetensors files of `folder` that no index and no number makes shards of one."""
    if not folder.is_dir() or is_there(folder / INDEX_FILE):
        return []
    return [path for path in sorted(folder.glob("*.safetensors")) if not is_shard(path)]


def _same_key(files: Iterable[Path]) -> str | None:
    """A key that two of `files` have, which parts of one LoRA never do."""
    keys = []
    for path in files:
        with open_header(path) as (_, header):
            keys.append(header.tensors.keys())
    return next((key for one, other in combinations(keys, 2) for key in one if key in other), None)


def _require_some_keys(lora: Lora, components: Collection[str], model: str) -> None:
    """Refuse a LoRA that is, by its keys, only for transformers that are not there; name those keys of any other."""
    second = EXPERTS["low"]
    if not lora.of_second_expert:
        return
    if not any(lora.keys_for(component) for component in components):
        raise VqError(
            f"All keys of {lora.request.path} are for {second}, such as `{min(lora.of_second_expert)}`, and it is to "
            f"be merged into {lora.request.component or ' and '.join(components)} of {model}: give one for that."
        )
    if second not in components:
        logger.warning(
            "%s: %d of %d keys are for %s, which %s lacks, and are not merged, such as `%s`.",
            lora.request.path, len(lora.of_second_expert), len(lora.infos), second, model, min(lora.of_second_expert),
        )  # fmt: skip


def _tell_expert(lora: Lora, components: Collection[str]) -> None:
    """Say where a LoRA that names one expert is merged into both, or into the other."""
    request = lora.request
    if lora.expert is None or lora.of_second_expert or not set(EXPERTS.values()) <= set(components):
        return
    noise = next(noise for noise, component in EXPERTS.items() if component == lora.expert)
    if request.component is None:
        logger.warning(
            "%s says that it is for the %s-noise expert and is merged into both: give `--lora %s` for that one alone.",
            request.path, noise, replace(request, component=lora.expert),
        )  # fmt: skip
    elif request.component != lora.expert:
        logger.warning(
            "%s says that it is for the %s-noise expert and is merged into %s, not %s: check that it is meant so.",
            request.path, noise, request.component, lora.expert,
        )  # fmt: skip
