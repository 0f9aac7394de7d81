"""Models as they come: the transformers of a checkpoint in any layout, read tensor by tensor, never whole.

LoRAs are merged as the tensors are read, so whoever reads a merged model reads it like any other.
"""

import hashlib
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import JsonValue
from torch import Tensor

from vq_core.errors import VqError
from vq_core.families import Family
from vq_core.files.gguf_file import SUFFIX as GGUF_SUFFIX
from vq_core.files.pth_file import SUFFIXES as PTH_SUFFIXES
from vq_core.model.already_quantized import refuse_quantized
from vq_core.model.embedded import embedded_model, embedded_names
from vq_core.model.lora import Merge
from vq_core.model.lora_experts import open_loras
from vq_core.model.lora_file import Lora
from vq_core.model.lora_request import LoraRequest
from vq_core.model.pipeline_parts import MODEL_INDEX, PART_CONFIGS
from vq_core.model.source_gains import SourceGains
from vq_core.model.source_layout import (
    CONFIG_FILE,
    StoredTransformer,
    read_transformer,
    require_tensors,
    transformer_paths,
)
from vq_core.model.tensor_naming import StoredTensor, load_stored
from vq_core.remote.location import Uri, parse_location
from vq_core.remote.transfer import exists, local_copy
from vq_core.topology import Topology

logger = logging.getLogger(__name__)

SAMPLED_BYTES = 4096
# Of a hub id: diffusers' layout, and Wan-AI's; and the small files that say how the model is sampled.
TRANSFORMER_FILES = [
    "model_index.json",
    "sampling.json",
    "scheduler/scheduler_config.json",
    "vae/config.json",
    "image_encoder/config.json",
    "transformer*/*",
    "config.json",
    "diffusion_pytorch_model*",
    "high_noise_model/*",
    "low_noise_model/*",
]
TRANSFORMER_WEIGHTS = ["transformer*/*.safetensors*"]
FILE_SUFFIXES = (".safetensors", GGUF_SUFFIX, *PTH_SUFFIXES)


class SourceTransformer:
    """One transformer on disk. Its tensors are those of its topology, by diffusers' names; nothing is kept loaded.

    One that LLMC has smoothed brings gains of its modulated norms with it. See `vq_core.model.transformer_reader`.
    """

    def __init__(self, stored: StoredTransformer, component: str = "transformer", loras: Sequence[Lora] = ()) -> None:
        """The transformer that is `stored`, with those of `loras` merged that are for `component`.

        Raises:
            VqError: it is quantized already, a tensor is missing, unknown or misshapen, or a LoRA does not fit it.
        """
        self.folder = stored.where  # or its one file
        self.config = stored.config
        self.family_name, self.family = stored.family_name, stored.family
        self.topology: Topology = self.family.topology(self.config)
        refuse_quantized(stored.where, stored.infos, native=stored.native)
        self._gains = SourceGains(stored, self.topology)
        require_tensors(stored, self.topology.tensors, besides=self._gains.tensors)
        self.rounded = stored.rounded
        """What its weights were rounded to before, in words; empty where they were not."""
        self._stored = stored.tensors
        self._merge = Merge(loras, component, self.topology, self.family)
        if self.has_gains and self.merged:
            raise VqError(
                f"{self.folder} is smoothed already, and what a LoRA adds is not: merge it before smoothing, with LLMC "
                "or here, from the model that LLMC smoothed."
            )

    @property
    def has_gains(self) -> bool:
        """Does it bring gains of its modulated norms, by which their outputs are to be multiplied?"""
        return self._gains.present

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
        return self._stored[name].info.dtype

    def verify(self, shard: str) -> None:
        """Do nothing: these files have no digests, and each read checks that its file did not change."""

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """Any tensors; LoRAs are merged on the CPU, so that every device gets the same bits.

        Raises:
            VqError: a file was changed since it was opened.
        """
        names = list(names)
        merged = set(self.merged).intersection(names)
        loaded = load_stored({name: self._stored[name] for name in names if name not in merged}, device)
        for name in merged:
            (original,) = load_stored({name: self._stored[name]}).values()
            loaded[name] = self._merge.apply(name, original).to(device)
        self._gains.absorb_rounding(loaded)
        return {name: loaded[name] for name in names}

    def linear(self, name: str, device: str = "cpu") -> Tensor:
        """The weight of the linear `name`, `[out, in]`."""
        (weight,) = self.plain([f"{name}.weight"], device).values()
        return weight

    def gain(self, name: str, device: str = "cpu") -> Tensor | None:
        """The gain `name`; None where the model brings none.

        Raises:
            VqError: scale and shift of its norm have different gains, or it is not positive and finite.
        """
        return self._gains.gain(name, device)

    @cached_property
    def fingerprint(self) -> str:
        """Identity of the weights, the same however they are spelt and sharded.

        SHA-256 over every tensor's diffusers name, dtype, shape, first and last 4 KiB, in order of name: it tells
        fine-tunes apart and reads megabytes, not the tens of gigabytes of a whole model. Merged LoRAs enter by the
        digests of their files and their strengths, in the order of merging.
        """
        return self.fingerprint_with(self.lora)

    def fingerprint_with(self, loras: Sequence[Mapping[str, JsonValue]]) -> str:
        """What the fingerprint is if not the own LoRAs but `loras` are merged, of which only the entries are needed."""
        digest = fingerprint_of(self._stored, [*self.topology.tensors, *self._gains.tensors])
        for entry in loras:
            digest.update(f"lora {entry['sha256']} {entry['strength']!r}\n".encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Source:
    """A model as the user named it, and its transformers by component name."""

    name: str
    path: Path
    components: Mapping[str, SourceTransformer]

    @property
    def family_name(self) -> str:
        """Name of the family that all components belong to."""
        return next(iter(self.components.values())).family_name

    @property
    def family(self) -> Family:
        """The family that all components belong to."""
        return next(iter(self.components.values())).family

    @property
    def has_gains(self) -> bool:
        """Does any component bring gains of its modulated norms?"""
        return any(checkpoint.has_gains for checkpoint in self.components.values())

    @property
    def rounded(self) -> bool:
        """Were weights of any component rounded before, and are dequantized as they are read?"""
        return any(checkpoint.rounded for checkpoint in self.components.values())

    @property
    def fingerprints(self) -> dict[str, str]:
        """Fingerprint of each component."""
        return {name: checkpoint.fingerprint for name, checkpoint in self.components.items()}


def fingerprint_of(stored: Mapping[str, StoredTensor], names: Iterable[str]) -> "hashlib._Hash":
    """SHA-256 over the tensors `names` of those that are `stored`, to be continued or read; see `SourceTransformer`."""
    digest = hashlib.sha256()
    for name in sorted(names):
        tensor = stored[name]
        digest.update(f"{name} {tensor.info.dtype} {tensor.info.shape}\n".encode())
        for content in tensor.file.ends(tensor.key, SAMPLED_BYTES):
            digest.update(content)
    return digest


def open_source(model: str, loras: Sequence[LoraRequest] = (), *, allow_pth: bool = False) -> Source:
    """Open the transformers of `model`, with `loras` merged: in diffusers' or Wan-AI's layout, see `source_layout`.

    `model` is a folder, a file, an embedded model or a hub id; `allow_pth` allows to read `.pth` files.

    Raises:
        VqError: it is none of these, a shard is missing or truncated, a tensor is missing, unknown or misshapen, it is
            quantized already, or a LoRA does not belong to it.
    """
    path = resolve_model(model, only=TRANSFORMER_FILES)
    paths = transformer_paths(path)
    opened = open_loras(loras, paths, model)
    components = {
        name: SourceTransformer(read_transformer(where, allow_pth=allow_pth), name, opened)
        for name, where in paths.items()
    }
    first, *others = components.values()
    for other in others:
        if other.topology != first.topology:
            raise VqError(
                f"{first.folder} and {other.folder} are not of one architecture: give the experts of one model."
            )
    for component in components.values():
        if component.rounded:
            logger.warning(
                "%s was quantized before, %s, and is read dequantized: errors against it leave that one out.",
                component.folder, component.rounded,
            )  # fmt: skip
    return Source(model, path, components)


def _copy_beside(folder: Uri) -> None:
    """Copy what is said of a transformer in `folder` by its configuration, and by the pipeline that it is a part of."""
    told = [folder / CONFIG_FILE]
    if folder.name.startswith("transformer") and exists(folder.parent / MODEL_INDEX):
        told += [folder.parent / name for name in (MODEL_INDEX, *PART_CONFIGS)]
    for location in told:
        if exists(location):
            local_copy(location)


def resolve_model(model: str, *, only: list[str] | None = None, without: list[str] | None = None) -> Path:
    """Local folder or file of `model`: itself if it exists, a URI's copy, an embedded model's, or a hub id's snapshot.

    What lies here comes first, whatever its name, as it does before a hub id. A snapshot or copy is downloaded where it
    is not cached: `only` files that match one of these patterns, or those that match none of `without`.

    Raises:
        VqError: none of these, an embedded model that is not installed, or the download failed.
    """
    location = parse_location(model)
    if isinstance(location, Uri):
        # What is not a pipeline is a transformer's folder or file, and all of it is needed.
        if exists(location / MODEL_INDEX):
            return local_copy(location, only=only, without=without)
        path = local_copy(location, without=without)  # a transformer's folder or file, and all of it is needed
        _copy_beside(location.parent if path.is_file() else location)
        return path
    path = Path(model)
    if path.is_dir() or (path.is_file() and path.suffix in FILE_SUFFIXES):
        return path
    if embedded := embedded_model(model):
        return embedded
    if path.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        built_in = ", ".join(embedded_names())
        raise VqError(
            f"{model} is neither a folder nor a hub id such as Wan-AI/Wan2.1-I2V-14B-480P-Diffusers, nor a safetensors "
            f"file: check the path{built_in and f', or choose a built-in model ({built_in})'}."
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
