"""`lightx2v-checkpoint`: the files that LightX2V loads, with our manifest beside them.

Per component: `block_N.safetensors`, `non_block.safetensors`, an index and a native config.json; Wan 2.2's experts in
`high_noise_model/` and `low_noise_model/`. Names are native. For every quantized linear `STEM.weight` (codes
`[out, in]`), `STEM.weight_scale` (fp32 `[out, 1]`) and `STEM.bias` (bf16 `[out]`); a gain is written twice, as
`blocks.N.affine_norm1.weight` (multiplies 1 + scale) and `.bias` (multiplies shift). Writer, reader and verifier share
the table of tensors in this module.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from functools import cached_property
from typing import Any

from torch import Tensor

from vq_core.artifacts.models_in_place import models_told
from vq_core.families import Family, family_named
from vq_core.model.already_quantized import IMPORTED
from vq_core.model.lightx2v_gain_names import affine_norm
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import QuantScheme, scheme_named
from vq_core.remote.location import Location
from vq_core.store.reader import Artifact, open_artifact
from vq_core.topology import Topology, shard_of

KIND = "lightx2v-checkpoint"
FORMAT = 1
RUN_CONFIG_FOLDER = "run_configs"
CHECKPOINT_PLACEHOLDER = "/path/to/this/checkpoint"
"""Stands for the checkpoint in its run configs: its path is not known before it is copied to where it runs."""

IMAGE_TOKENS = 257
"""LightX2V takes the first 257 tokens of the condition for the image's, whatever there are: those of Wan's CLIP."""


def image_tokens(config: Mapping[str, Any], sampling: Mapping[str, Any]) -> int | None:
    """How many tokens the image encoder makes of one image; None without one.

    `config` is the transformer's, `sampling` the artifact's sampling settings. Wan's own CLIP, of native folders, is
    not described in any file, and makes `IMAGE_TOKENS`.
    """
    if config.get("image_dim") is None:
        return None
    if config.get("pos_embed_seq_len") is not None:
        return int(config["pos_embed_seq_len"]) // 2  # first and last frame
    return int(sampling.get("image_tokens", IMAGE_TOKENS))


class Role(Enum):
    """The kind of a tensor in the checkpoint."""

    CODES = auto()
    SCALE = auto()
    GROUP_SCALE = auto()
    CODEBOOK = auto()
    PLAIN = auto()
    GAIN = auto()
    MEAN = auto()


@dataclass(frozen=True)
class CheckpointTensor:
    """One tensor of the checkpoint: its origin (a diffusers tensor, a linear or a gain), its shape and its shard."""

    role: Role
    origin: str
    shape: tuple[int, ...]
    shard: str


def checkpoint_tensors(topology: Topology, family: Family, *, gains: bool) -> dict[str, CheckpointTensor]:
    """Every tensor in the checkpoint of a transformer, by its native name.

    `gains` says whether modulated norms have gains (LightX2V's `quant_method: advanced_ptq`).
    """
    entries: dict[str, CheckpointTensor] = {}
    for name, shape in topology.tensors.items():
        native, shard = family.to_native(name), shard_of(name)
        if name in topology.weights:
            origin = topology.weights[name]
            entries[native] = CheckpointTensor(Role.CODES, origin, shape, shard)
            entries[f"{native}_scale"] = CheckpointTensor(Role.SCALE, origin, (shape[0], 1), shard)
        else:
            entries[native] = CheckpointTensor(Role.PLAIN, name, shape, shard)
    if gains:
        for name, length in topology.gains.items():
            for tensor in affine_norm(name):
                entries[tensor] = CheckpointTensor(Role.GAIN, name, (length,), shard_of(name))
    return entries


class ConvertedTransformer:
    """One transformer of a converted checkpoint, read as any other: see `vq_core.model.transformer_reader`."""

    def __init__(self, artifact: Artifact, name: str, family: Family, gains: bool) -> None:
        self._artifact = artifact
        self._name = name
        entry = artifact.manifest.components[name]
        self.config = entry.config
        self.fingerprint = entry.fingerprint
        self.lora = entry.merged
        whole = family.topology(entry.config)
        self.topology: Topology = whole.keeping(self._kept(frozenset(linear.name for linear in whole.linears)))
        self.entries = self._table(family, gains=gains)
        self._native: dict[Role, dict[str, str]] = {role: {} for role in Role}
        for native, item in self.entries.items():
            self._native[item.role][item.origin] = native

    def _kept(self, linears: frozenset[str]) -> frozenset[str]:
        """Names of those of the `linears` that stay in full precision."""
        return frozenset()

    def _table(self, family: Family, *, gains: bool) -> dict[str, CheckpointTensor]:
        return checkpoint_tensors(self.topology, family, gains=gains)

    @cached_property
    def measured(self) -> Mapping[str, Mapping[str, Any]]:
        """How each linear was rounded, and with what error, by its name; none of which the manifest says nothing."""
        said = self._artifact.manifest.measured.get(self._name)
        return {linear: how for linear, how in said.items() if isinstance(how, dict)} if isinstance(said, dict) else {}

    def verify(self, shard: str) -> None:
        """Compare the digest of the file of `shard` before another thread may read it.

        Raises:
            VqError: it is not the file that was written.
        """
        self._artifact.verify(self._name, [native for native, entry in self.entries.items() if entry.shard == shard])

    def plain(self, names: Iterable[str], device: str = "cpu") -> dict[str, Tensor]:
        """Tensors that are not quantized."""
        wanted = {self._native[Role.PLAIN][name]: name for name in names}
        loaded = self._artifact.tensors(self._name, wanted, device)
        return {name: loaded[native] for native, name in wanted.items()}

    def linear(self, name: str, device: str = "cpu") -> Quantized:
        """Codes and scale of the quantized linear `name`."""
        codes, scale = self._native[Role.CODES][name], self._native[Role.SCALE][name]
        loaded = self._artifact.tensors(self._name, [codes, scale], device)
        return Quantized(loaded[codes], loaded[scale])

    def scheme_of(self, linear: str) -> QuantScheme:
        """The scheme of the quantized linear `linear`."""
        return scheme_named(str(self._artifact.manifest.settings["scheme"]))

    def input_mean(self, linear: str, device: str = "cpu") -> Tensor | None:
        """What the quantized `linear` subtracts from its input; None where there is none."""
        native = self._native[Role.MEAN].get(linear)
        return None if native is None else self._artifact.tensors(self._name, [native], device)[native]

    def gain(self, name: str, device: str = "cpu") -> Tensor | None:
        """The gain `name`; None if the checkpoint was not smoothed."""
        native = self._native[Role.GAIN].get(name)
        return None if native is None else self._artifact.tensors(self._name, [native], device)[native]


class ConvertedCheckpoint:
    """An opened lightx2v-checkpoint artifact."""

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.family_name = artifact.manifest.family
        self.family = family_named(self.family_name)

    @property
    def scheme(self) -> str:
        """Name of the scheme of all linears, or of the schemes of which each has one."""
        return str(self.artifact.manifest.settings["scheme"])

    @cached_property
    def schemes(self) -> tuple[QuantScheme, ...]:
        """The schemes of the linears, each once."""
        linears = ((it, linear.name) for it in self.components.values() for linear in it.topology.linears)
        return tuple(dict.fromkeys(component.scheme_of(name) for component, name in linears))

    @property
    def has_gains(self) -> bool:
        """Whether modulated norms have gains."""
        return bool(self.artifact.manifest.settings["gains"])

    @property
    def is_imported(self) -> bool:
        """Did another tool make the codes? Only then may they hold −128, and the fingerprint is that of the codes."""
        how = self.artifact.manifest.settings.get("quantize")
        return isinstance(how, dict) and how.get("method") in IMPORTED.values()

    @cached_property
    def components(self) -> Mapping[str, ConvertedTransformer]:
        """The transformers by component name."""
        names = self.artifact.manifest.components
        return {name: ConvertedTransformer(self.artifact, name, self.family, self.has_gains) for name in names}


def open_checkpoint(path: Location) -> ConvertedCheckpoint:
    """Open the lightx2v-checkpoint artifact in `path`.

    Raises:
        VqError: see `vq_core.store.reader.open_artifact`.
    """
    with models_told(path):
        return ConvertedCheckpoint(open_artifact(path, KIND, FORMAT))
