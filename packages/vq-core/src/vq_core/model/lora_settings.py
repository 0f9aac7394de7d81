"""What is noted of a LoRA beside its tensors: by diffusers in the headers of its files, by PEFT in another file."""

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vq_core.errors import VqError
from vq_core.files.given_file import read_given
from vq_core.files.json_file import parse_json, read_json
from vq_core.files.tensor_file import read_metadata

PEFT_CONFIG = "adapter_config.json"
PEFT_WEIGHTS = "adapter_model.safetensors"
DIFFUSERS_METADATA = "lora_adapter_metadata"
TRANSFORMER = "transformer"
"""What diffusers calls the part of a pipeline that a LoRA is for, whichever expert it is."""
MAX_CONFIG_BYTES = 1 << 20
NOT_MERGED = ("alpha_pattern", "use_rslora", "fan_in_fan_out", "layer_replication")
"""Settings of PEFT that change what a low-rank pair means."""
OTHER_BASE = ("pissa", "olora", "loftq", "corda")
"""PEFT's initialisations that take something out of the model's weights before the training."""

Noted = Mapping[str, Any]


@dataclass(frozen=True)
class LoraSettings:
    """What is noted for one transformer.

    Attributes:
        alpha: of every low-rank pair that has none of its own; None where none is noted.
        use_dora: whether the pairs have magnitudes beside them.
    """

    alpha: float | None
    use_dora: bool


def settings_for(noted: Noted, component: str, where: object) -> LoraSettings:
    """What is `noted` of the LoRA `where` for the transformer `component`.

    Raises:
        VqError: it was trained with a setting of PEFT that is not merged here, or its alpha is no number.
    """
    # PEFT notes settings as they are. Diffusers puts the part of the pipeline before them, and calls either expert
    # the transformer.
    config = dict(noted)
    for prefix in (f"{TRANSFORMER}.", f"{component}."):
        config |= {key.removeprefix(prefix): it for key, it in noted.items() if key.startswith(prefix)}
    for setting in NOT_MERGED:
        if config.get(setting):
            raise _not_merged(where, setting)
    if str(config.get("init_lora_weights")).lower().startswith(OTHER_BASE):
        raise _not_merged(where, f"init_lora_weights = {config['init_lora_weights']}")
    if config.get("peft_type") not in (None, "LORA"):
        raise _not_merged(where, f"peft_type = {config['peft_type']}")
    alpha = config.get("lora_alpha")
    if alpha is not None:
        require_alpha(alpha, "lora_alpha", where)
    return LoraSettings(alpha, bool(config.get("use_dora")))


def require_alpha(alpha: object, name: str, where: object) -> None:
    """Refuse an `alpha` by which nothing can be multiplied; `name` and `where` are for the message.

    Raises:
        VqError: it is no finite number, or 0, which some tools take for the rank and others for nothing.
    """
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not math.isfinite(alpha) or alpha == 0:
        raise VqError(f"`{name}` of {where} is {alpha!r}, and must be a number other than 0: get the LoRA again.")


def noted_in_headers(files: Iterable[Path]) -> dict[str, Any]:
    """What diffusers has noted in the headers of the safetensors `files`.

    Raises:
        VqError: it is no JSON object.
    """
    noted: dict[str, Any] = {}
    for file in files:
        try:
            content = parse_json(read_metadata(file).get(DIFFUSERS_METADATA, "{}").encode())
        except ValueError as error:
            raise VqError(f"`{DIFFUSERS_METADATA}` in {file} is not JSON ({error}): get it again.") from None
        if not isinstance(content, dict):
            raise VqError(f"`{DIFFUSERS_METADATA}` in {file} is not a JSON object: get it again.")
        noted |= content
    return noted


def peft_configs(folder: Path) -> dict[Path, Noted]:
    """The files in `folder` that are PEFT's configurations by their content, and that which is one by its name.

    Raises:
        VqError: the latter is no JSON object.
    """
    found: dict[Path, Noted] = {}
    for path in sorted(folder.glob("*.json")):
        if not path.is_file():  # a pipe never ends
            continue
        if path.name == PEFT_CONFIG:
            found[path] = read_json(path)
        elif path.stat().st_size <= MAX_CONFIG_BYTES:
            try:
                content = parse_json(read_given(path))
            except (ValueError, OSError):
                continue  # whatever it is, PEFT has not written it
            if isinstance(content, dict) and "peft_type" in content:
                found[path] = content
    return found


def may_be_of(config: Noted, ranks: Collection[int], modules: Collection[str]) -> bool:
    """Whether PEFT's `config` may be that of pairs with these `ranks`, which change `modules`."""
    if not config.get("rank_pattern") and config.get("r") is not None and any(config["r"] != it for it in ranks):
        return False
    targets = config.get("target_modules")
    if not isinstance(targets, list):  # a regular expression, which is somebody else's program
        return True
    return all(any(f".{module}".endswith(f".{target}") for target in targets) for module in modules)


def _not_merged(where: object, setting: str) -> VqError:
    return VqError(f"{where} was trained with PEFT's {setting}, which is not merged here: merge it with PEFT first.")
