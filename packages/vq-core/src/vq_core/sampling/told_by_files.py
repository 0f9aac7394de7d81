"""What the files beside a model's weights tell of how it is sampled: scheduler, experts, VAE and image encoder.

Artifacts carry it in their sampling settings, because later stages have no model folder:

* `flow_shift`: of the scheduler; null if there is a scheduler that does not say it;
* `boundary_ratio`: sigma below which the low-noise expert takes over;
* `experts`: 2 for a model of two transformers, also if only one of them was given;
* `vae_stride`: frames, rows and columns of pixels in one latent;
* `image_tokens`: what the image encoder makes of one image.

A key is missing where no file tells it, as in Wan-AI's own folders.
"""

import math
import re
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from vq_core.errors import VqError
from vq_core.files.given_file import is_there
from vq_core.files.json_file import read_json

INDEX, CONFIG = "model_index.json", "config.json"
SCHEDULER = Path("scheduler", "scheduler_config.json")
_OF_A_PAIR = re.compile(r"(high|low)[-_ ]?noise", re.IGNORECASE)
_SHIFTS = ("flow_shift", "shift")  # UniPC's and Euler's names of it


def told_by(model: Path) -> dict[str, JsonValue]:
    """What is told of the model in the folder or file `model`, which may be one transformer of a pipeline.

    Raises:
        VqError: one of the files is damaged, or a value in it is none that a model can be sampled with.
    """
    root = _pipeline_of(model)
    index = read_json(root / INDEX) if is_there(root / INDEX) else {}
    told: dict[str, JsonValue] = {}
    if scheduler := _of_part(root / SCHEDULER):
        told["flow_shift"] = _flow_shift(scheduler, root / SCHEDULER)
    if index.get("boundary_ratio") is not None:
        told["boundary_ratio"] = _number(index["boundary_ratio"], "boundary_ratio", 1.0, root / INDEX)
    if "boundary_ratio" in told or _has_two(root, index) or _is_named_for_one(model):
        told["experts"] = 2
    if vae := _of_part(root / "vae" / CONFIG):
        told["vae_stride"] = _vae_stride(vae, root / "vae" / CONFIG)
    if encoder := _of_part(root / "image_encoder" / CONFIG):
        told["image_tokens"] = _image_tokens(encoder, root / "image_encoder" / CONFIG)
    return told


def _pipeline_of(model: Path) -> Path:
    """The folder of the pipeline that `model` is, or is a transformer of; `model` where there is none."""
    folder = model.parent if model.is_file() else model
    inside = folder.name.startswith("transformer") and not is_there(folder / INDEX)
    return folder.absolute().parent if inside else folder


def _has_two(root: Path, index: dict[str, Any]) -> bool:
    listed = index.get("transformer_2")
    if isinstance(listed, list) and listed and listed[0]:
        return True
    return not index and is_there(root / "transformer_2" / CONFIG)


def _is_named_for_one(model: Path) -> bool:
    """Is `model` called one expert, as Wan-AI's folders and files of one expert are?"""
    path = model.absolute()
    names = [path.name, path.parent.name] if path.is_file() else [path.name]
    return any(map(_OF_A_PAIR.search, names)) or any(
        (path / f"{noise}_noise_model").is_dir() for noise in ("high", "low")
    )


def _flow_shift(scheduler: dict[str, Any], path: Path) -> float | None:
    if scheduler.get("use_dynamic_shifting"):
        raise VqError(f"{path} says use_dynamic_shifting, and Wan has one shift for all sizes: give it a flow_shift.")
    for key in _SHIFTS:
        if key in scheduler:
            return _number(scheduler[key], key, math.inf, path)
    return None


def _number(value: object, key: str, below: float, path: Path) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < below:
        limit = "" if below == math.inf else f" and below {below:g}"
        raise VqError(f"{path} says {key}={value!r}, which should be a number above 0{limit}: mend it.")
    return float(value)


def _vae_stride(vae: dict[str, Any], path: Path) -> list[JsonValue]:
    frames, rows = vae.get("scale_factor_temporal", 4), vae.get("scale_factor_spatial", 8)
    if type(frames) is not int or type(rows) is not int or frames < 1 or rows < 1:
        raise VqError(
            f"{path} says scale_factor_temporal={frames!r} and scale_factor_spatial={rows!r}, which are no sizes: "
            "get it again."
        )
    return [frames, rows, rows]


def _image_tokens(encoder: dict[str, Any], path: Path) -> int:
    """Patches of CLIP's square image, and its class token."""
    vision = encoder.get("vision_config", encoder)
    side, patch = (vision.get(key) for key in ("image_size", "patch_size"))
    if not isinstance(side, int) or not isinstance(patch, int) or not 0 < patch <= side:
        raise VqError(f"{path} says image_size={side!r} and patch_size={patch!r}, which are no sizes: get it again.")
    return (side // patch) ** 2 + 1


def _of_part(config: Path) -> dict[str, Any]:
    """What a part's configuration says; nothing where there is no such part."""
    return read_json(config, missing="get the whole pipeline") if is_there(config.parent) else {}
