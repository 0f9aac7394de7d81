"""The parts of a pipeline, loaded by diffusers and transformers: the one place that calls their `from_pretrained`.

Their loaders take what they find: pickles, programs beside a tokenizer, adapters, and random values for weights that
are missing. So a part is looked at first, its files and then its tensors, and what is not whole is refused.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vq_core.errors import VqError
from vq_core.files.given_file import is_there
from vq_core.files.json_file import read_json
from vq_core.files.tensor_file import TensorInfo, read_header
from vq_core.files.tensor_folder import indexed_files
from vq_core.numerics.finite import require_finite
from vq_core.runtime.silence_libraries import silenced_libraries

_ENCODERS = ("text_encoder", "image_encoder")
FILES = {
    "tokenizer": (("tokenizer_config.json",), ("tokenizer.json", "spiece.model")),
    "scheduler": (("scheduler_config.json",),),
    "image_processor": (("preprocessor_config.json", "processor_config.json"),),
}
"""What the other parts consist of: one file of each tuple."""
MAX_SIZE, MAX_COUNT = 1 << 20, 1024
"""Of any size in a configuration, and of what is counted: layers, blocks, entries of a list."""
TRIAL_STEPS = 4
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".msgpack", ".h5")
_ADAPTER = "adapter_config.json"


def require_files(folder: Path) -> None:
    """Refuse the part of a pipeline in `folder`, which has the part's name, if a file beside its weights is missing.

    Raises:
        VqError: names the file, or a number in it that no model has.
    """
    for names in FILES.get(folder.name, ()):
        present = [name for name in names if is_there(folder / name)]
        if not present:
            raise VqError(f"{folder / names[0]} is missing: get the whole pipeline.")
        if folder.name != "tokenizer":  # its numbers are larger than any of ours
            require_sizes(folder / present[0])


def require_loadable(pipeline: Path) -> None:
    """Refuse the folder `pipeline` if its encoders or its VAE could not be loaded, before any of them is.

    Raises:
        VqError: see `require_fitting`.
    """
    with silenced_libraries():
        from diffusers import AutoencoderKLWan
        from transformers import CLIPVisionModel, UMT5EncoderModel
    for part, model_class in (
        ("text_encoder", UMT5EncoderModel), ("image_encoder", CLIPVisionModel), ("vae", AutoencoderKLWan),
    ):  # fmt: skip
        if (pipeline / part).is_dir():
            require_fitting(model_class, pipeline / part)


def weights_of(folder: Path) -> dict[str, TensorInfo]:
    """Dtype and shape of every tensor of the model in `folder`, which has the part's name; by the tensors' names.

    Raises:
        VqError: a file is missing or damaged, or is of another format.
    """
    if is_there(folder / _ADAPTER):
        raise VqError(f"{folder} holds an adapter ({_ADAPTER}), which would be loaded unasked: merge it, or remove it.")
    stem = "model" if folder.name in _ENCODERS else "diffusion_pytorch_model"
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    files = [single] if is_there(single) else []
    if is_there(index):
        files += [folder / name for name in sorted(set(indexed_files(index).values()))]
    if not files:
        raise _no_weights(folder, single)
    return {name: info for path in files for name, info in read_header(path).items()}


def load_model(model_class: Any, folder: Path, **settings: Any) -> nn.Module:
    """The model in `folder`, of diffusers' or transformers' `model_class`, in evaluation mode.

    Whether its tensors fit is `require_fitting`'s to say before.

    Raises:
        VqError: what `weights_of` refuses, it cannot be loaded, or a weight is NaN or infinite, which need not show in
            a result: attention makes zeros of NaN.
    """
    weights_of(folder)
    model: nn.Module = _loaded(model_class, folder, use_safetensors=True, **settings)
    for name, parameter in model.named_parameters():
        require_finite(parameter.detach(), name, folder)
    return model.eval()


def load_other(part_class: Any, folder: Path, **settings: Any) -> Any:
    """The tokenizer, image processor or scheduler in `folder`; programs beside it are not run.

    Raises:
        VqError: it cannot be loaded.
    """
    return _loaded(part_class, folder, **settings)


def load_vae(pipeline: Path, device: str, *, tiling: bool) -> Any:
    """The VAE of the pipeline in the folder `pipeline`, in float32 on `device`; `tiling` makes it decode in tiles.

    Raises:
        VqError: see `load_model`.
    """
    with silenced_libraries():
        from diffusers import AutoencoderKLWan
    vae: Any = load_model(AutoencoderKLWan, pipeline / "vae", torch_dtype=torch.float32)
    if tiling:
        vae.enable_tiling()
    return vae.to(device)


def load_scheduler(pipeline: Path, class_name: str) -> Any:
    """The scheduler of the pipeline in the folder `pipeline`, diffusers' `class_name`.

    Raises:
        VqError: diffusers has no such scheduler, or it cannot be loaded or take a step.
    """
    with silenced_libraries():
        import diffusers
    scheduler_class = getattr(diffusers, class_name, None)
    if not isinstance(scheduler_class, type) or not issubclass(scheduler_class, diffusers.SchedulerMixin):
        raise VqError(f"{pipeline} has the scheduler {class_name}, which diffusers does not know: get it again.")
    require_types(scheduler_class, pipeline / "scheduler" / "scheduler_config.json")
    scheduler = load_other(scheduler_class, pipeline / "scheduler")
    with silenced_libraries():
        _require_steps(type(scheduler).from_config(scheduler.config), pipeline / "scheduler")
    return scheduler


def require_fitting(model_class: Any, folder: Path) -> None:
    """Compare the tensors in `folder` with those of a `model_class` of the configuration there; none is loaded.

    Raises:
        VqError: a tensor is missing or misshapen, or there is no such model.
    """
    infos = weights_of(folder)
    require_sizes(folder / "config.json")
    if hasattr(model_class, "load_config"):
        require_types(model_class, folder / "config.json")
    else:
        _require_model_type(model_class, folder / "config.json")
    try:
        with silenced_libraries(), torch.device("meta"):
            if hasattr(model_class, "load_config"):  # diffusers'
                model = model_class.from_config(model_class.load_config(folder, local_files_only=True))
            else:
                model = model_class(model_class.config_class.from_pretrained(folder, local_files_only=True))
    except Exception as error:
        raise _unusable(folder, error) from error
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tied: Mapping[str, str] = getattr(model, "_tied_weights_keys", None) or {}
    # What one release calls `embeddings` is `vision_model.embeddings` in the files of another.
    prefixes = {"", *(f"{name.partition('.')[0]}." for name in infos)}
    prefix = max(sorted(prefixes), key=lambda it: sum(f"{it}{name}" in infos for name in shapes))
    stored = {name.removeprefix(prefix): info for name, info in infos.items() if name.startswith(prefix)}
    for name, shape in shapes.items():
        same = {name, tied.get(name), *(one for one, other in tied.items() if other == name)}
        if not same & stored.keys():
            raise VqError(
                f"{folder} lacks the tensor `{name}`, which its config.json asks for: get the whole pipeline."
            )
        if name in stored and stored[name].shape != shape:
            raise VqError(
                f"`{name}` in {folder} is {list(stored[name].shape)} and should be {list(shape)}, as its config.json "
                "says: get a matching pair."
            )
    places = {_place(name) for name in shapes}
    for name in stored.keys() - shapes.keys():
        if _place(name) in places:
            raise VqError(f"`{name}` in {folder} is of a layer that its config.json leaves out: get a matching pair.")


def _place(tensor: str) -> str:
    """The name of `tensor` without numbers, the same in every layer."""
    return re.sub(r"\d+", "#", tensor)


def _loaded(part_class: Any, folder: Path, **settings: Any) -> Any:
    with silenced_libraries(), used_as_configured(folder):
        return part_class.from_pretrained(folder, local_files_only=True, **settings)


@contextmanager
def used_as_configured(folder: Path) -> Iterator[None]:
    """Lay what a library raises within the block on the files in `folder`: everything else was checked before.

    Raises:
        VqError: names the folder and says what the library said.
    """
    try:
        yield
    except (VqError, torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:
        raise _unusable(folder, error) from error


def _require_steps(scheduler: Any, folder: Path) -> None:
    """Let `scheduler` take a few steps: much of what its configuration says is only looked at there."""
    sample = torch.ones(1, 1, 1, 1, 1)
    with used_as_configured(folder):
        scheduler.set_timesteps(TRIAL_STEPS)
        for timestep in scheduler.timesteps:
            (sample,) = scheduler.step(sample, timestep, sample, return_dict=False)
    if not torch.isfinite(sample).all():
        raise VqError(f"{folder} gives NaN or infinity: get the whole pipeline again.")


def _unusable(folder: Path, error: Exception) -> VqError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return VqError(f"{folder} cannot be used ({reason}): get the whole pipeline again.")


def _no_weights(folder: Path, wanted: Path) -> VqError:
    there = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    if pickles := [name for name in there if name.endswith(_PICKLES)]:
        return VqError(
            f"{folder} has its weights in {pickles[0]} and not as safetensors, a format that can carry programs: "
            "convert them to safetensors, or get the model from where it is published as safetensors."
        )
    if variants := [name for name in there if name.endswith(".safetensors")]:
        return VqError(f"{wanted} is missing, and {variants[0]} is not looked for: give it that name.")
    return VqError(f"{wanted} is missing: get the whole pipeline.")


def require_types(part_class: Any, path: Path) -> None:
    """Refuse the configuration `path` of diffusers' `part_class` for what it would take for another or ignore.

    Raises:
        VqError: a value is of another type than its default, or a key is a known one misspelled; or the file is
            missing or damaged.
    """
    config = read_json(path, missing="get the whole pipeline")
    if "_class_name" not in config:
        raise VqError(f"{path} is not one of diffusers' (it has no `_class_name`): get the whole pipeline again.")
    parameters = signature(part_class.__init__).parameters
    for key in config.keys() - parameters.keys():
        if meant := get_close_matches(key, parameters.keys() - config.keys(), n=1, cutoff=0.85):
            raise VqError(f"{path} has the unknown key `{key}`: write `{meant[0]}`, or get the whole pipeline again.")
    for key, parameter in parameters.items():
        if key in config and parameter.default is not None and not _is_like(config[key], parameter.default):
            raise VqError(
                f"`{key}` in {path} is {config[key]!r:.80}, and should be like {parameter.default!r:.80}: "
                "get the whole pipeline again."
            )


def _require_model_type(model_class: Any, path: Path) -> None:
    """Refuse a configuration that transformers would take for one of its `model_class`, with a warning alone."""
    config, wanted = read_json(path, missing="get the whole pipeline"), model_class.config_class
    said = config.get("model_type", wanted.model_type)
    if said != wanted.model_type and getattr(wanted, "base_config_key", "") not in config:
        raise VqError(f"{path} is of a {said}, and should be of a {wanted.model_type}: get the whole pipeline again.")


def _is_like(value: object, default: object) -> bool:
    if isinstance(default, list | tuple):
        return isinstance(value, list) and all(_is_like(entry, default[0]) for entry in value if default)
    if isinstance(default, float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return type(value) is type(default)


def require_sizes(path: Path) -> None:
    """Refuse the configuration `path` for numbers that no model has: the libraries would build one of that size.

    Raises:
        VqError: names the number, or the file is missing or damaged.
    """
    stack: list[tuple[str, Any]] = [("", read_json(path, missing="get the whole pipeline"))]
    while stack:
        key, value = stack.pop()
        if isinstance(value, dict):
            stack += value.items()
        elif isinstance(value, list):
            if len(value) > MAX_COUNT:
                raise VqError(f"`{key}` in {path} has {len(value)} entries: get the whole pipeline again.")
            stack += ((key, entry) for entry in value)
        elif isinstance(value, int) and not isinstance(value, bool):
            limit = MAX_COUNT if key.endswith(("layers", "blocks")) else MAX_SIZE
            if abs(value) > limit:
                raise VqError(f"`{key}` in {path} is {value}, and no model has that: get the whole pipeline again.")
