"""Models as they come: the transformers of a diffusers checkpoint, read tensor by tensor, never whole.

LoRAs are merged as the tensors are read, so whoever reads a merged model reads it like any other.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor

from vq_core.embedded import embedded_model, embedded_names
from vq_core.errors import VqError
from vq_core.families import Family, family_of
from vq_core.location import Uri, parse_location
from vq_core.lora import FLOAT_DTYPES, Lora, Merge, require_components
from vq_core.lora_request import LoraRequest
from vq_core.remote import exists, local_copy
from vq_core.tensor_file import TensorInfo, load_tensors
from vq_core.tensor_folder import index_tensors, read_json
from vq_core.topology import Topology

SAMPLED_BYTES = 4096
TRANSFORMER_FILES = ["model_index.json", "transformer*/*"]
TRANSFORMER_WEIGHTS = ["transformer*/*.safetensors*"]


class Checkpoint:
    """One transformer on disk. Its tensors are those of its topology, by diffusers' names; nothing is kept loaded."""

    def __init__(self, folder: Path, component: str = "transformer", loras: Sequence[Lora] = ()) -> None:
        """Open the transformer in `folder`, with those of `loras` merged that are for `component`."""
        self.folder = folder
        self.config = read_json(folder / "config.json")
        self.family_name, self.family = family_of(self.config, str(folder))
        self.topology: Topology = self.family.topology(self.config)
        self._files, self._infos = index_tensors(folder)
        _check_names(folder, self._infos, self.topology, self.family)
        self._merge = Merge(loras, component, self.topology, self.family)

    @property
    def merged(self) -> tuple[str, ...]:
        """Names of the tensors that LoRAs change."""
        return self._merge.tensors

    @cached_property
    def lora(self) -> tuple[dict[str, JsonValue], ...]:
        """What a manifest says of the LoRAs that are merged."""
        return self._merge.entries()

    def dtype(self, name: str) -> str:
        """Safetensors' name of the tensor's dtype, such as `BF16`."""
        return self._infos[name].dtype

    def load(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """The tensors `names`, on `device`; LoRAs are merged on the CPU, so that every device gets the same bits."""
        plain: dict[Path, list[str]] = {}
        loaded: dict[str, Tensor] = {}
        merged = set(self.merged)
        for name in names:
            if name in merged:
                (original,) = load_tensors(self._files[name], [name]).values()
                loaded[name] = self._merge.apply(name, original).to(device)
            else:
                plain.setdefault(self._files[name], []).append(name)
        for path, wanted in plain.items():
            loaded |= load_tensors(path, wanted, device)
        return loaded

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the weights, the same however they are sharded.

        SHA-256 over every tensor's name, dtype, shape, first and last 4 KiB, in order of name: it tells fine-tunes
        apart and reads megabytes, not the tens of gigabytes of a whole model. Merged LoRAs enter by the digests of
        their files and their strengths, in the order of merging.
        """
        digest = hashlib.sha256()
        for name in sorted(self.topology.tensors):
            info = self._infos[name]
            digest.update(f"{name} {info.dtype} {info.shape}\n".encode())
            with self._files[name].open("rb") as file:
                for begin in (info.begin, max(info.begin, info.end - SAMPLED_BYTES)):
                    file.seek(begin)
                    digest.update(file.read(min(SAMPLED_BYTES, info.end - begin)))
        for entry in self.lora:
            digest.update(f"lora {entry['sha256']} {entry['strength']!r}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Source:
    """A model as the user named it, and its transformers by component name."""

    name: str
    path: Path
    components: Mapping[str, Checkpoint]

    @property
    def family_name(self) -> str:
        """Name of the family that all components belong to."""
        return next(iter(self.components.values())).family_name

    @property
    def family(self) -> Family:
        """The family that all components belong to."""
        return next(iter(self.components.values())).family

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of each component."""
        return {name: checkpoint.fingerprint for name, checkpoint in self.components.items()}


def open_source(model: str, loras: Sequence[LoraRequest] = ()) -> Source:
    """Open a diffusers pipeline folder, a transformer folder, an embedded model, or a hub id, with `loras` merged.

    Raises:
        VqError: it is none of these, a shard is missing or truncated, a tensor is missing, unknown or misshapen, or a
            LoRA does not belong to it.
    """
    path = resolve_model(model, only=TRANSFORMER_FILES)
    if (path / "model_index.json").exists():
        listed = read_json(path / "model_index.json")
        folders = {name: path / name for name, entry in listed.items() if name.startswith("transformer") and entry[0]}
    elif (path / "config.json").exists():
        folders = {"transformer": path}
    else:
        folders = {}
    if not folders:
        raise VqError(
            f"{path} is not a model in diffusers' layout (no model_index.json that lists a transformer, "
            "and no config.json): give such a folder."
        )
    opened = [Lora(request, model) for request in loras]
    require_components(opened, folders, model)
    return Source(model, path, {name: Checkpoint(folder, name, opened) for name, folder in folders.items()})


def resolve_model(model: str, *, only: list[str] | None = None, without: list[str] | None = None) -> Path:
    """Local folder of `model`: itself if it exists, a URI's copy, that of an embedded model, or a hub id's snapshot.

    A folder comes first, whatever its name, as it does before a hub id. A snapshot or copy is downloaded where it is
    not cached: `only` files that match one of these patterns, or those that match none of `without`.

    Raises:
        VqError: none of these, an embedded model that is not installed, or the download failed.
    """
    location = parse_location(model)
    if isinstance(location, Uri):
        # What is not a pipeline is a transformer's folder or file, and all of it is needed.
        return local_copy(location, only=only if exists(location / "model_index.json") else None, without=without)
    path = Path(model)
    if path.is_dir():
        return path
    if embedded := embedded_model(model):
        return embedded
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        built_in = ", ".join(embedded_names())
        raise VqError(
            f"{model} is neither a folder nor a hub id such as Wan-AI/Wan2.1-I2V-14B-480P-Diffusers: "
            f"check the path{built_in and f', or choose a built-in model ({built_in})'}."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, allow_patterns=only, ignore_patterns=without))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise VqError(
            f"{model} is not a folder here and could not be had from the hub ({reason}): check name and network."
        ) from error


def _check_names(folder: Path, infos: Mapping[str, TensorInfo], topology: Topology, family: Family) -> None:
    for name, info in infos.items():
        if info.dtype not in FLOAT_DTYPES or name.endswith((".weight_scale", ".scale_weight")):
            raise VqError(
                f"{folder} is quantized already (`{name}` is {info.dtype}): give the model in full or half precision."
            )
    for name, shape in topology.tensors.items():
        if name not in infos:
            raise VqError(f"{folder} lacks the tensor `{name}`: get the missing shard.")
        if infos[name].shape != shape:
            raise VqError(
                f"`{name}` in {folder} is {list(infos[name].shape)} and config.json says {list(shape)}: "
                "get a matching pair."
            )
    unknown = [name for name in infos if name not in topology.tensors and not name.endswith(family.IGNORED_TENSORS)]
    if unknown:
        raise VqError(
            f"`{unknown[0]}` in {folder} is not part of the architecture ({len(unknown)} such tensors): "
            "get the plain model."
        )
