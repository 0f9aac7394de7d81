"""One block, computed in fp32 from the written files as the runtime would, against the same block of the source.

Three computations, on the same random inputs, of a block and of the last layer of each embedder that it reads:

    reference   the source's tensors, in diffusers' order
    explained   the same, each linear's weight replaced by what rounding to nearest leaves of it, each other tensor cast
                to bfloat16, and those that were corrected or centered taken from the checkpoint (`centering` says
                whether they fit): all that a faithful checkpoint may change
    found       the checkpoint's tensors by their native names, in LightX2V's order, cast to bfloat16 as it casts them

Without gains that is ComfyUI's order and cast, too.

The measure is the noise power of `found` over that of `explained`, ‖found − reference‖² / ‖explained − reference‖², in
each branch and in its queries and keys by themselves. Rounding to nearest gives the same codes, so a faithful
checkpoint has 0 dB. A rounder that minimises another error than the weight's has some dB more on random inputs, because
they lack the correlations that it relies on (0.5 dB on a small trained model). Mistakes are far larger: 8 bits leave
noise 25 to 40 dB below a branch's signal, while a lost gain, a lost norm fold, a zero `affine_norm.bias`, two swapped
linears, a gain on the wrong norm or another order of operations leaves an error 0 to 20 dB below it. The limits lie
between. One wrong row or column among thousands stays below them: `linear_error` finds those, and tensors that are not
quantized are compared one by one in every block.

The embedders' last layers are included because smoothing folds the gains of cross-attention's keys and values into
them.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.artifacts.comfyui_checkpoint import GAIN, MEAN, read_marker
from vq_core.model.comfyui_codes import MARK, rotation_of
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.grouped import Packed, unpack
from vq_core.numerics.quantize import Quantized, dequantize
from vq_core.numerics.rotation import NONE
from vq_core.topology import Group, ProjectionSink
from vq_export.verify.checks.centering import Centered
from vq_export.verify.checks.fidelity import corrected_biases, folded, gain_finder, rounds_to_nearest
from vq_export.verify.checks.gains import NON_BLOCK, Gains
from vq_export.verify.checks.linear_error import rounded_to_nearest
from vq_export.verify.checks.wan_block import BlockInputs, BlockShape, Branches, diffusers_block, native_block
from vq_export.verify.reference import Reference

TOKENS, TEXT_TOKENS, IMAGE_TOKENS = 24, 12, 8
SEED = 20
MAX_EXCESS_NEAREST_DB = 3.0
MAX_EXCESS_DB = 10.0
FP32_NOISE = 1e-12
"""Noise over signal of fp32 arithmetic."""
TEXT = "condition_embedder.text_embedder.linear_2"
IMAGE = "condition_embedder.image_embedder.norm2"
NATIVE_TEXT, NATIVE_IMAGE = "text_embedding.2", "img_emb.proj.4"

Read = Callable[[str], Tensor]


@dataclass(frozen=True)
class BranchError:
    """Error of one branch of the block, or of its queries or keys.

    Attributes:
        snr_db: of `found` against `reference`; infinite where the branch gives zeros.
        excess_db: noise power of `found` over that of `explained`.
    """

    snr_db: float
    excess_db: float


@dataclass(frozen=True)
class BlockError:
    """Error of a block of one transformer by branch; `limit_db` is the largest `excess_db` that rounding explains."""

    block: int
    limit_db: float
    branches: dict[str, BranchError]

    @property
    def wrong(self) -> list[str]:
        """The branches that rounding does not explain."""
        return [name for name, error in self.branches.items() if not error.excess_db <= self.limit_db]


def block_error(
    checkpoint: ConvertedCheckpoint, name: str, reference: Reference, block: int, device: str = "cpu"
) -> BlockError:
    """Error of block `block` of the component `name` against `reference`. Host memory: one linear in fp32, twice."""
    original = reference.components[name]
    own = _Inputs(checkpoint, name, block, device)

    def exactly(tensor: str) -> Tensor:
        return original.plain([tensor], device)[tensor].float()

    # The biases of smoothed weights go with inputs that are centered; those of the model itself do not.
    exact = own.diffusers(exactly, exactly, own.gains(reference, {}), centered=reference.smoothed)
    finder = gain_finder(checkpoint, name, reference, device)
    gains = finder.gains(f"block_{block}", finder.gains(NON_BLOCK, {}))
    own.multiply_modulation(gains)
    expected = _explained(own, reference, gains)
    found = own.native(as_loaded=True)
    branches = {
        branch: _error(*values)
        for branch, values in zip(Branches._fields, zip(exact, expected, found, strict=True), strict=True)
    }
    limit = MAX_EXCESS_NEAREST_DB if rounds_to_nearest(checkpoint) else MAX_EXCESS_DB
    return BlockError(block, limit, branches)


def cast_snr_db(checkpoint: ConvertedCheckpoint, name: str, block: int, device: str = "cpu") -> float:
    """SNR in dB, in its worst branch, of a block as the runtime casts its tensors against the same block as stored."""
    own = _Inputs(checkpoint, name, block, device)
    pairs = zip(own.native(as_loaded=False), own.native(as_loaded=True), strict=True)
    return min(_error(stored, stored, loaded).snr_db for stored, loaded in pairs)


def _explained(own: "_Inputs", reference: Reference, gains: Gains) -> Branches:
    changed = corrected_biases(own.checkpoint, own.name) | Centered(own.checkpoint, own.name).tensors
    own_tensors = frozenset() if reference.smoothed else changed

    def explained(tensor: str) -> Tensor:
        return folded(reference.components[own.name], tensor, gains, own.device).float()

    def plain(tensor: str) -> Tensor:
        if tensor in own_tensors:
            return nearest_bf16(own.component.plain([tensor], own.device)[tensor])
        return nearest_bf16(explained(tensor))

    kept = {f"{linear.name}.weight" for linear in own.component.topology.kept}

    def rounded(weight: str) -> Tensor:
        if weight in kept:
            return plain(weight)
        quantized = own.component.linear(weight.removesuffix(".weight"), own.device)
        return rounded_to_nearest(explained(weight), quantized)

    return own.diffusers(plain, rounded, own.gains(reference, gains), centered=True)


def _error(exact: Tensor, expected: Tensor, found: Tensor) -> BranchError:
    signal = float(exact.double().square().sum())
    noise = float((found - exact).double().square().sum())
    explained = float((expected - exact).double().square().sum())
    floor = max(FP32_NOISE * signal, torch.finfo(torch.float32).tiny)
    snr_db = 10 * math.log10(signal / max(noise, floor)) if signal else math.inf if noise <= floor else -math.inf
    return BranchError(snr_db, 10 * math.log10((noise + floor) / (explained + floor)))


class _Inputs:
    """The random inputs of one block, and how both sides compute it."""

    def __init__(self, checkpoint: ConvertedCheckpoint, name: str, block: int, device: str) -> None:
        self.checkpoint, self.name, self.block, self.device = checkpoint, name, block, device
        self.component = checkpoint.components[name]
        config = cast(dict[str, int], self.component.config)
        self._shape = BlockShape(config["num_attention_heads"], config["eps"])
        dim = config["num_attention_heads"] * config["attention_head_dim"]
        self._reads_image = config.get("added_kv_proj_dim") is not None
        generator = torch.Generator().manual_seed(SEED)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(device)

        self._hidden, self._text, self._image = (random(n, dim) for n in (TOKENS, TEXT_TOKENS, IMAGE_TOKENS))
        self._modulation = random(6, dim)
        angles = random(TOKENS, config["attention_head_dim"] // 2)
        self._cos, self._sin = angles.cos(), angles.sin()

    def multiply_modulation(self, gains: Gains) -> None:
        """Let the projected timestep be what it is where `gains` that all blocks have in common are folded into it."""
        for group, gain in gains.items():
            if isinstance(group.sink, ProjectionSink):
                self._modulation[[group.sink.scale, group.sink.shift]] *= gain

    def gains(self, reference: Reference, found: Mapping[Group, Tensor]) -> dict[str, Tensor]:
        """Gains of the block's modulated norms by their names in it: of smoothed weights, else those `found`."""
        prefix = f"blocks.{self.block}."
        own = [gain for gain in self.component.topology.gains if gain.startswith(prefix)]
        if reference.smoothed:
            known = {name: reference.components[self.name].gain(name, self.device) for name in own}
            return {name.removeprefix(prefix): gain for name, gain in known.items() if gain is not None}
        return {group.gain.removeprefix(prefix): gain for group, gain in found.items() if group.gain in own}

    def diffusers(self, plain: Read, weight: Read, gains: Mapping[str, Tensor], *, centered: bool) -> Branches:
        """The block in diffusers' order; `plain` and `weight` read tensors and linears' weights by diffusers' names.

        Where it is `centered`, linears that do so in the checkpoint subtract the mean of what they read.
        """
        prefix = f"blocks.{self.block}."
        topology = self.component.topology
        linears = {linear.name for linear in topology.block_linears}
        tensors = {
            name.removeprefix(prefix): plain(name)
            for name in topology.tensors
            if name.startswith(prefix) and name.rpartition(".")[0] not in linears
        }

        def linear(stem: str, x: Tensor) -> Tensor:
            mean = self.component.input_mean(f"{prefix}{stem}", self.device) if centered else None
            read = x if mean is None else x - mean
            return F.linear(read, weight(f"{prefix}{stem}.weight"), plain(f"{prefix}{stem}.bias"))

        return diffusers_block(self._block_inputs(plain, TEXT, IMAGE), tensors, linear, self._shape, gains)

    def native(self, *, as_loaded: bool) -> Branches:
        """The block of the checkpoint's files by native names; `as_loaded` casts every float to bfloat16 first."""
        prefix = f"blocks.{self.block}."
        table = self.checkpoint.artifact.manifest.components[self.name].tensors
        stems = {name.rpartition(".")[0] for name in table if name.endswith((".weight_scale", ".weight_s_channel"))}

        def read(name: str) -> Tensor:
            tensor = self.checkpoint.artifact.tensors(self.name, [name], self.device)[name].float()
            return nearest_bf16(tensor) if as_loaded else tensor

        def linear(stem: str, x: Tensor) -> Tensor:
            name = f"{prefix}{stem}"
            if name not in stems:
                return F.linear(x, read(f"{name}.weight"), read(f"{name}.bias"))
            quantized = self._stored(name, read)
            smoothed = x * read(f"{name}{GAIN}") if f"{name}{GAIN}" in table else x
            smoothed = smoothed - read(f"{name}{MEAN}") if f"{name}{MEAN}" in table else smoothed
            return F.linear(smoothed, dequantize(quantized), read(f"{name}.bias"))

        tensors = {
            name.removeprefix(prefix): read(name)
            for name in table
            if name.startswith(prefix) and name.rpartition(".")[0] not in stems
        }
        inputs = self._block_inputs(read, NATIVE_TEXT, NATIVE_IMAGE)
        return native_block(
            inputs, tensors, linear, self._shape, smoothed=any("affine_norm" in name for name in tensors)
        )

    def _stored(self, stem: str, read: Read) -> Quantized:
        """The weight of the linear `stem` by its tensors' names."""

        def raw(part: str) -> Tensor:
            return self.checkpoint.artifact.tensors(self.name, [f"{stem}.{part}"], self.device)[f"{stem}.{part}"]

        codes, rotation = raw("weight"), self._rotation(stem)
        if f"{stem}.weight_s_rel" not in self.checkpoint.artifact.manifest.components[self.name].tensors:
            return Quantized(codes, read(f"{stem}.weight_scale"), rotation)
        scale = read(f"{stem}.weight_s_channel").unsqueeze(1)
        return unpack(Packed(codes, raw("weight_s_rel"), scale, rotation))

    def _rotation(self, stem: str) -> int:
        """What the marker of a linear says of it; LightX2V has none."""
        mark = f"{stem}{MARK}"
        if mark not in self.checkpoint.artifact.manifest.components[self.name].tensors:
            return NONE
        return rotation_of(read_marker(self.checkpoint.artifact.tensors(self.name, [mark])[mark], mark))

    def _block_inputs(self, read: Read, text: str, image: str) -> BlockInputs:
        """The inputs, conditions as the last layers of the embedders give them: `text` a linear, `image` a norm."""
        embedded = F.linear(self._text, read(f"{text}.weight"), read(f"{text}.bias"))
        pictured = None
        if self._reads_image:
            normed = F.layer_norm(self._image, self._image.shape[-1:], eps=self._shape.eps)
            pictured = normed * read(f"{image}.weight") + read(f"{image}.bias")
        return BlockInputs(self._hidden, embedded, pictured, self._modulation, self._cos, self._sin)
