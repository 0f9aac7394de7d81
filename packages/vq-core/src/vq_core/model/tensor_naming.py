"""Tensors of a transformer by diffusers' names, however the files spell them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from vq_core.errors import VqError
from vq_core.families import Family, family_named, family_names
from vq_core.files.tensor_file import TensorInfo
from vq_core.files.weights_file import WeightsFile
from vq_core.model.lightx2v_gain_names import is_affine_norm

PREFIXES = ("model.diffusion_model.", "diffusion_model.")
"""What ComfyUI and training tools put before the names of the transformer."""
OTHER_PARTS = ("first_stage_model.", "vae.", "text_encoders.", "cond_stage_model.", "clip_vision.", "scaled_fp8")
"""What else a file with such names may hold: the other parts of the pipeline, and ComfyUI's mark."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor on disk: its file, its name there, and its shape where the file cannot tell it."""

    file: WeightsFile
    key: str
    shape: tuple[int, ...] | None = None

    @property
    def info(self) -> TensorInfo:
        """Dtype and shape."""
        info = self.file.infos[self.key]
        return info if self.shape is None else info._replace(shape=self.shape)


def load_stored(tensors: Mapping[str, StoredTensor], device: str = "cpu") -> dict[str, Tensor]:
    """The contents of `tensors`, under the same names and in their order, on `device`.

    Raises:
        VqError: a file was changed since it was opened.
    """
    by_file: dict[WeightsFile, list[str]] = {}
    for name, tensor in tensors.items():
        by_file.setdefault(tensor.file, []).append(name)
    loaded: dict[str, Tensor] = {}
    for file, names in by_file.items():
        contents = file.load([tensors[name].key for name in names], device)
        loaded |= {name: contents[tensors[name].key].reshape(tensors[name].info.shape) for name in names}
    return {name: loaded[name] for name in tensors}


@dataclass(frozen=True)
class NamedTensors:
    """Tensors of a transformer by diffusers' names; what has none keeps its own.

    `native` says whether the files spell them as Wan-AI does.
    """

    family_name: str
    family: Family
    native: bool
    tensors: Mapping[str, StoredTensor]


def name_tensors(files: Mapping[str, WeightsFile], where: Path) -> NamedTensors:
    """Give the tensors in `files` (by their names there) diffusers' names; `where` is for messages.

    Raises:
        VqError: no family knows them, some are spelt one way and some the other, or it is not clear which belong to
            the transformer.
    """
    stored = _without_prefix({name: StoredTensor(file, name) for name, file in files.items()}, where)
    family_name, family = _family_of(stored, where)
    diffusers: list[str] = []
    native: list[str] = []
    for name in stored:
        if not is_affine_norm(name) and _knows(family.to_native, name) != _knows(family.to_diffusers, name):
            (native if _knows(family.to_diffusers, name) else diffusers).append(name)
    if diffusers and native:
        raise VqError(
            f"{where} is half in diffusers' names (`{diffusers[0]}`, {len(diffusers)} tensors) and half in native ones "
            f"(`{native[0]}`, {len(native)}): keep the files of one model."
        )
    if not native:
        return NamedTensors(family_name, family, False, stored)
    known = frozenset(native)
    renamed = {(family.to_diffusers(name) if name in known else name): tensor for name, tensor in stored.items()}
    return NamedTensors(family_name, family, True, renamed)


def _without_prefix(stored: Mapping[str, StoredTensor], where: Path) -> Mapping[str, StoredTensor]:
    prefixes = [prefix for prefix in PREFIXES if any(name.startswith(prefix) for name in stored)]
    if not prefixes:
        return stored
    own = {name.removeprefix(prefixes[0]): tensor for name, tensor in stored.items() if name.startswith(prefixes[0])}
    outside = [name for name in stored if not name.startswith((prefixes[0], *OTHER_PARTS))]
    if outside:
        raise VqError(
            f"{where} has tensors with the prefix `{prefixes[0]}` and others, such as `{outside[0]}`, "
            "so it is not clear which are the transformer: give a file with the transformer alone."
        )
    return own


def _family_of(names: Mapping[str, StoredTensor], where: Path) -> tuple[str, Family]:
    """The family that knows most of the names."""
    for family_name in family_names():
        family = family_named(family_name)
        known = sum(_knows(family.to_native, name) or _knows(family.to_diffusers, name) for name in names)
        if 2 * known > len(names):
            return family_name, family
    raise VqError(
        f"{where} is no transformer of a family that is known here ({', '.join(family_names())}); its first tensor is "
        f"`{next(iter(names), 'none')}`: give the transformer of a Wan 2.1 or 2.2 model."
    )


def _knows(translate: Callable[[str], str], name: str) -> bool:
    try:
        translate(name)
    except VqError:
        return False
    return True
