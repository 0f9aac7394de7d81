"""LoRAs merged into a transformer's weights, tensor by tensor, as they are read.

    W' = W + Σ strength · (alpha / rank · B·A + diff)

in fp32, W' stored once, in the dtype of W. A is `[rank, in]` (`lora_A`, `lora_down`), B `[out, rank]` (`lora_B`,
`lora_up`); without an alpha the factor alpha / rank is 1. Biases take `diff_b` and alpha / rank times B's bias.
Hu et al. 2021, arXiv 2106.09685.
"""

import hashlib
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core.errors import VqError
from vq_core.families import Family
from vq_core.files.json_file import read_json
from vq_core.files.tensor_file import FLOAT_DTYPES, TensorInfo, read_metadata, sha256_of
from vq_core.files.tensor_folder import gather_tensors, index_tensors
from vq_core.model.lora_keys import KeyTable, LoraPart, block_in, is_additive
from vq_core.model.lora_request import LoraRequest
from vq_core.numerics.finite import require_finite
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy
from vq_core.topology import Topology

logger = logging.getLogger(__name__)

PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"
DIFFUSERS_METADATA = "lora_adapter_metadata"
TRANSFORMER = "transformer"
"""What diffusers calls the part of a pipeline that a LoRA is for, whichever expert it is."""
NOT_MERGED = ("alpha_pattern", "use_rslora", "use_dora")
"""Settings of PEFT that change what a low-rank pair means."""


class Lora:
    """The tensors of one LoRA, by their keys; nothing is kept loaded."""

    def __init__(self, request: LoraRequest, model: str = "the model") -> None:
        """Open the LoRA that is to be merged into `model`, a name for messages."""
        self.request = request
        self.model = model
        path = _local(request.path)
        if path.is_dir():
            self._files = index_tensors(path)
        elif path.is_file():
            self._files = gather_tensors([path])
        else:
            raise VqError(f"There is no LoRA {path}: give a safetensors file, or a folder with one.")
        self.infos: dict[str, TensorInfo] = {key: file.infos[key] for key, file in self._files.items()}
        for key, info in self.infos.items():
            if not is_additive(key):
                raise VqError(
                    f"`{key}` in {path} makes it more than a low-rank pair that is added to a weight: "
                    "merge it with the tool that trained it."
                )
            if info.dtype not in FLOAT_DTYPES and not key.endswith(".alpha"):
                raise VqError(f"`{key}` in {path} is {info.dtype}: give the LoRA in full or half precision.")
        weights = sorted({file.path for file in self._files.values()})
        config = (path if path.is_dir() else path.parent) / PEFT_CONFIG
        beside = [config] if (path.is_dir() or path.name == PEFT_WEIGHTS) and config.exists() else []
        self._read = [*weights, *beside]
        self._noted = _noted(weights, beside)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its file or, of several, over theirs in order; PEFT's configuration is one of them."""
        digests = [sha256_of(path) for path in self._read]
        return digests[0] if len(digests) == 1 else hashlib.sha256(bytes.fromhex("".join(digests))).hexdigest()

    def alpha(self, component: str) -> float | None:
        """The alpha that is noted beside the tensors, for all that are merged into `component`; None where none is.

        Raises:
            VqError: it was trained with a setting of PEFT that is not merged here.
        """
        # PEFT notes settings as they are. Diffusers puts the part of the pipeline before them, and calls either expert
        # the transformer.
        config = dict(self._noted)
        for prefix in (f"{TRANSFORMER}.", f"{component}."):
            config |= {key.removeprefix(prefix): it for key, it in self._noted.items() if key.startswith(prefix)}
        for setting in NOT_MERGED:
            if config.get(setting):
                raise VqError(
                    f"{self.request.path} was trained with PEFT's {setting}, which is not merged here: "
                    "merge it with PEFT first."
                )
        return config.get("lora_alpha")

    def load(self, key: str) -> Tensor:
        """The tensor `key`, fp32."""
        tensor = self._files[key].load([key])[key].float()
        require_finite(tensor, key, self.request.path)
        return tensor


@dataclass(frozen=True)
class Change:
    """What one LoRA adds to one tensor: keys of the file by part, and the alpha of a pair that has none itself."""

    lora: Lora
    keys: Mapping[LoraPart, str]
    noted_alpha: float | None

    def add_to(self, tensor: Tensor) -> None:
        """Add strength · (alpha / rank · B·A + diff) to `tensor`, fp32, in place."""
        strength = self.lora.request.strength
        if LoraPart.UP in self.keys:
            # A convolution's pair is a linear's on flattened patches.
            down, up = (self.lora.load(self.keys[part]).flatten(1) for part in (LoraPart.DOWN, LoraPart.UP))
            tensor += (up @ down).mul_(strength * self._scale).reshape(tensor.shape)
        if LoraPart.UP_BIAS in self.keys:
            tensor += self.lora.load(self.keys[LoraPart.UP_BIAS]).mul_(strength * self._scale).reshape(tensor.shape)
        if LoraPart.DIFF in self.keys:
            tensor += self.lora.load(self.keys[LoraPart.DIFF]).mul_(strength).reshape(tensor.shape)

    @property
    def _scale(self) -> float:
        alpha = float(self.lora.load(self.keys[LoraPart.ALPHA])) if LoraPart.ALPHA in self.keys else self.noted_alpha
        return 1.0 if alpha is None else alpha / self.lora.infos[self.keys[LoraPart.DOWN]].shape[0]


class Merge:
    """The LoRAs that are merged into one transformer."""

    def __init__(self, loras: Sequence[Lora], component: str, topology: Topology, family: Family) -> None:
        table = KeyTable(topology.tensors, family)
        self.loras = tuple(lora for lora in loras if lora.request.component in (None, component))
        self._changes: dict[str, list[Change]] = {}
        for lora in self.loras:
            for tensor, change in _changes(lora, component, table, topology).items():
                self._changes.setdefault(tensor, []).append(change)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that are changed."""
        return tuple(self._changes)

    def apply(self, name: str, tensor: Tensor) -> Tensor:
        """`tensor`, which is called `name`, with every LoRA merged; its dtype stays."""
        if name not in self._changes:
            return tensor
        merged = tensor.to(torch.float32, copy=True)
        for change in self._changes[name]:
            change.add_to(merged)
        return merged.to(tensor.dtype)

    def entries(self) -> tuple[dict[str, JsonValue], ...]:
        """What a manifest says of the LoRAs, in the order of merging."""
        return tuple(
            {"file": lora.request.path.name, "sha256": lora.digest, "strength": lora.request.strength}
            for lora in self.loras
        )


def _local(path: Location) -> Path:
    """Where the LoRA lies here; what PEFT keeps beside its file comes with it from a URI."""
    if path.name == PEFT_WEIGHTS:
        return local_copy(path.parent, only=[PEFT_WEIGHTS, PEFT_CONFIG]) / PEFT_WEIGHTS
    return local_copy(path)


def require_components(loras: Iterable[Lora], components: Iterable[str], model: str) -> None:
    """Refuse a LoRA for a transformer that the model lacks.

    Raises:
        VqError: names it, and those that there are.
    """
    known = list(components)
    for lora in loras:
        if lora.request.component not in (None, *known):
            raise VqError(
                f"`--lora {lora.request}` is for {lora.request.component}, and {model} has {' and '.join(known)}: "
                "name one of these, or none for all."
            )


def _noted(weights: Iterable[Path], configs: Iterable[Path]) -> dict[str, Any]:
    """What diffusers notes in the headers of `weights`, or PEFT in `configs`."""
    noted: dict[str, Any] = {}
    for file in weights:
        try:
            noted |= json.loads(read_metadata(file).get(DIFFUSERS_METADATA, "{}"))
        except ValueError as error:
            raise VqError(f"`{DIFFUSERS_METADATA}` in {file} is not JSON ({error}): get it again.") from None
    for file in configs:
        noted |= read_json(file)
    return noted


def _changes(lora: Lora, component: str, table: KeyTable, topology: Topology) -> dict[str, Change]:
    """What `lora` adds, by tensor; its keys that match nothing are named in one warning.

    Raises:
        VqError: no key matches, one is of a block that is not there or stands twice, half a pair is missing, or shapes
            do not fit.
    """
    path = lora.request.path
    keys: dict[str, dict[LoraPart, str]] = {}
    unmatched: list[str] = []
    for key in lora.infos:
        target = table.resolve(key)
        if target is None:
            unmatched.append(key)
        elif target.part in keys.setdefault(target.tensor, {}):
            raise VqError(
                f"`{key}` and `{keys[target.tensor][target.part]}` in {path} both change `{target.tensor}`: "
                "keep one of them."
            )
        else:
            keys[target.tensor][target.part] = key
    changes, alpha = {}, lora.alpha(component)
    for tensor, parts in keys.items():
        weight = keys.get(f"{tensor.removesuffix('.bias')}.weight", {}) if LoraPart.UP_BIAS in parts else {}
        # The bias of B is scaled as B is, so it needs the rank and the alpha of its pair.
        borrowed: dict[LoraPart, str] = {
            part: weight[part] for part in (LoraPart.DOWN, LoraPart.ALPHA) if part in weight
        }
        if LoraPart.ALPHA in parts and LoraPart.DOWN not in parts:
            unmatched.append(parts.pop(LoraPart.ALPHA))
        if parts:
            _check_parts(path, tensor, parts, borrowed)
            _check_shapes(lora, tensor, parts, topology.tensors[tensor])
            changes[tensor] = Change(lora, parts | borrowed, alpha)
    if not changes:
        raise VqError(
            f"{path} does not fit {lora.model}: none of its keys is that of a tensor of {component}, the first is "
            f"`{next(iter(lora.infos), '')}`, so give a LoRA of this architecture."
        )
    if unmatched:
        _tell_unmatched(lora, component, unmatched, topology.num_blocks)
    return changes


def _tell_unmatched(lora: Lora, component: str, unmatched: Sequence[str], num_blocks: int) -> None:
    """Name the keys that are not merged in one warning, by pattern, and each of them in the log."""
    path = lora.request.path
    if deeper := [key for key in unmatched if (block_in(key) or 0) >= num_blocks]:
        raise VqError(
            f"{path} does not fit {lora.model}: `{deeper[0]}` is about a block that {component}, with its "
            f"{num_blocks}, does not have, so give a LoRA of this model."
        )
    logger.warning(
        "%s: %d of %d keys match nothing in %s and are not merged: %s.",
        path, len(unmatched), len(lora.infos), component, ", ".join(_by_pattern(unmatched)),
    )  # fmt: skip
    for key in unmatched:
        logger.debug("%s: `%s` is not merged.", path, key)


def _check_parts(path: Location, tensor: str, parts: Mapping[LoraPart, str], borrowed: Mapping[LoraPart, str]) -> None:
    for one, other in ((LoraPart.DOWN, LoraPart.UP), (LoraPart.UP, LoraPart.DOWN)):
        if one in parts and other not in parts:
            raise VqError(f"`{parts[one]}` in {path} has no partner ({other.value}) for `{tensor}`: get it whole.")
    if LoraPart.UP_BIAS in parts and LoraPart.DOWN not in borrowed:
        raise VqError(f"`{parts[LoraPart.UP_BIAS]}` in {path} has no low-rank pair beside it: get it whole.")


def _check_shapes(lora: Lora, tensor: str, parts: Mapping[LoraPart, str], shape: tuple[int, ...]) -> None:
    def refuse(key: str) -> VqError:
        return VqError(
            f"{lora.request.path} does not fit {lora.model}: its `{key}` is {list(lora.infos[key].shape)} and "
            f"`{tensor}` is {list(shape)}, so give a LoRA of this model."
        )

    if LoraPart.DOWN in parts:
        down, up = (lora.infos[parts[part]] for part in (LoraPart.DOWN, LoraPart.UP))
        if _rows_and_columns(down)[1] != prod(shape[1:]):
            raise refuse(parts[LoraPart.DOWN])
        if _rows_and_columns(up) != (shape[0], down.shape[0]):
            raise refuse(parts[LoraPart.UP])
    for part in (LoraPart.DIFF, LoraPart.UP_BIAS):
        if part in parts and _without_ones(lora.infos[parts[part]].shape) != _without_ones(shape):
            raise refuse(parts[part])
    if LoraPart.ALPHA in parts and prod(lora.infos[parts[LoraPart.ALPHA]].shape) != 1:
        raise refuse(parts[LoraPart.ALPHA])


def _rows_and_columns(info: TensorInfo) -> tuple[int, int]:
    """Of the matrix that the tensor is once flattened; 0 and 0 for a vector."""
    return (info.shape[0], prod(info.shape[1:])) if len(info.shape) > 1 else (0, 0)


def _without_ones(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _by_pattern(keys: Iterable[str]) -> list[str]:
    """`keys` with block numbers as N and, where several are then alike, how many."""
    patterns = Counter(re.sub(r"(?<=blocks[._])\d+", "N", key) for key in keys)
    return [f"`{pattern}`" + (f" ({count})" if count > 1 else "") for pattern, count in sorted(patterns.items())]
