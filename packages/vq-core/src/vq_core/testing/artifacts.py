"""Smoothed weights with random gains, and quant params rounded to nearest, as vq-algos writes them of any model."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vq_core.artifacts import qparams, weights
from vq_core.artifacts.components import headers_in, model_header
from vq_core.artifacts.decisions import write_decided
from vq_core.artifacts.kept_names import KEPT
from vq_core.artifacts.weights import SmoothedTransformer, open_weights
from vq_core.model.source import open_source
from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.centering import offset_of, storable_mean, subtracts_itself, with_mean, without_mean
from vq_core.numerics.folding import fold_group
from vq_core.numerics.grouped import quantize_to
from vq_core.numerics.quantize import Quantized, dequantize, snr_db, weight_scale
from vq_core.numerics.rotation import NONE, largest_group, rotate
from vq_core.numerics.rounding import round_to_codes
from vq_core.numerics.scheme import schemes_named
from vq_core.store.writer import Header, create_artifact
from vq_core.topology import NON_BLOCK, block_of, shard_of

TOOL = "test"


def smoothed(
    component: TransformerReader[Tensor], generator: torch.Generator, octaves: float = 2.0, *, across: bool = False
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """All tensors of `component`, smoothed in every group that has a sink, and their gains.

    Gains are bfloat16 values of at most ±`octaves`, so that a forgotten one stands far outside the quantization error.
    With 0 octaves nothing is smoothed, and gains are ones. `across` also smooths what all blocks have in common.
    """
    topology = component.topology
    tensors = component.plain(topology.tensors) | {gain: torch.ones(size) for gain, size in topology.gains.items()}
    gains: dict[str, Tensor] = {}
    for group in (*topology.groups, *(topology.across_blocks if across else ())) if octaves else ():
        if group.sink is not None:
            exponents = octaves * (2 * torch.rand(group.in_features, generator=generator) - 1)
            gains[group.name] = nearest_bf16(2**exponents)
            fold_group(tensors, group, gains[group.name])
            if group.members:
                tensors[group.gain] = gains[group.name]
    return tensors, gains


def write_weights(
    model: Path,
    path: Path,
    *,
    octaves: float = 2.0,
    dtype: torch.dtype = torch.float32,
    across: bool = False,
    method: str = "random",
) -> dict[str, dict[str, Tensor]]:
    """Write smoothed weights of `model` to `path`, folded tensors as `dtype`; returns gains by component and group.

    They say that `method` smoothed them.
    """
    source, generator = open_source(str(model)), torch.Generator().manual_seed(7)
    header = model_header(source, weights.KIND, weights.FORMAT, tool=TOOL, settings={"method": method})
    gains: dict[str, dict[str, Tensor]] = {}
    with create_artifact(path, header) as writer:
        for name, component in source.components.items():
            tensors, gains[name] = smoothed(component, generator, octaves, across=across)
            for tensor, original in component.plain(component.topology.tensors).items():
                if not torch.equal(tensors[tensor], original):
                    tensors[tensor] = tensors[tensor].to(dtype)
            for shard in component.topology.shards():
                of_shard = {tensor: value for tensor, value in tensors.items() if shard_of(tensor) == shard}
                writer.write_tensors(f"{name}/{shard}.safetensors", of_shard)
    return gains


def write_qparams(
    smoothed_weights: Path,
    path: Path,
    scheme: str = "int8",
    *,
    bias_shift: float | None = None,
    corrected: str | None = None,
    clip: float = 1.0,
    rotation: int = NONE,
    center: bool = False,
    subtract: bool = False,
    kept: Sequence[str] = (),
) -> Path:
    """Write quant params of the artifact `smoothed_weights` to `path` and return it.

    Of several schemes in `scheme` the inputs of linears have one in turn.

    They hold every bias, or that of the linear `corrected` alone, increased by `bias_shift`. `clip` multiplies the
    absmax of every row. The codes are of weights in which at most `rotation` channels are rotated together. With
    `center` a random mean is subtracted from every input from which one can be; with `subtract` too behind GELU. The
    linears `kept` stay in full precision.
    """
    opened, schemes = open_weights(smoothed_weights), schemes_named(scheme)
    header = Header(
        qparams.KIND,
        qparams.FORMAT,
        TOOL,
        opened.family_name,
        opened.artifact.manifest.model,
        headers_in({name: name for name in opened.components}, opened.components),
        settings={"scheme": scheme, "method": "rtn"},
        parents={weights.KIND: opened.artifact.digest},
    )
    with create_artifact(path, header) as writer:
        writer.note_measured({KEPT: {name: list(kept) for name in opened.components}} if kept else {})
        for name, component in opened.components.items():
            outside: dict[str, Tensor] = {}
            if center:
                outside = _moved(component, NON_BLOCK, {})
                write_decided(writer, f"{name}/{NON_BLOCK}.safetensors", outside, {})
            for shard in component.topology.block_shards:
                tensors: dict[str, Tensor] = {}
                decisions: dict[str, dict[str, object]] = {}
                for stem in (linear.name for linear in component.topology.linears if linear.shard == shard):
                    turn = component.topology.groups.index(component.topology.group_of(stem)) + (block_of(stem) or 0)
                    chosen, weight = schemes[turn % len(schemes)], component.linear(stem)
                    group = largest_group(weight.shape[1], rotation)
                    weight = rotate(weight, group)
                    shifts = bias_shift is not None and corrected in (None, stem)
                    scale = weight_scale(clip * weight, chosen.weight)
                    quantized = Quantized(round_to_codes(weight / scale, chosen.weight), scale)
                    if chosen.grouped:
                        quantized = quantize_to(chosen, weight)
                    tensors |= {f"{stem}.{part}": tensor for part, tensor in qparams.stored(quantized).items()}
                    if group != NONE:
                        tensors[f"{stem}.rotation"] = torch.tensor(group)
                    if bias_shift is not None and shifts:
                        tensors[f"{stem}.bias"] = component.plain([f"{stem}.bias"])[f"{stem}.bias"].float() + bias_shift
                    snr = round(snr_db(weight, dequantize(quantized)), 3)
                    decisions[stem] = {"method": "rtn", "weight_snr_db": snr, "bias_corrected": shifts}
                    if len(schemes) > 1:
                        decisions[stem]["scheme"] = chosen.name
                if center:
                    tensors |= _moved(component, shard, tensors)
                    tensors |= _behind_gelu(component, shard) if subtract else {}
                    _center_readers(component, shard, outside, tensors, decisions)
                write_decided(writer, f"{name}/{shard}.safetensors", tensors, decisions)
    return path


def _moved(component: SmoothedTransformer, shard: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What produces inputs, those of the groups of `shard`, without random means, and the means; beside `tensors`."""
    moved: dict[str, Tensor] = {}
    for group in component.topology.groups:
        offset = offset_of(component.topology, group)
        if offset is None or shard_of(group.name) != shard:
            continue
        current, gain = _current(component, {**tensors, **moved}), component.gain_behind(group)
        # A quarter of what inputs are: more would be noise that no real mean adds.
        generator = torch.Generator().manual_seed(len(tensors) + len(moved))
        wanted = torch.randn(group.in_features, generator=generator) / 4
        mean = storable_mean(offset.of(current(offset.tensor)), wanted, gain)
        moved |= without_mean(current, offset, gain, mean) | {f"{group.name}.mean": mean}
    return moved


def _behind_gelu(component: SmoothedTransformer, shard: str) -> dict[str, Tensor]:
    """Random means of the inputs in `shard` from which linears themselves subtract one: as GELU's, mostly positive."""
    groups = (group for group in component.topology.groups if subtracts_itself(group) and shard_of(group.name) == shard)
    generator = torch.Generator().manual_seed(len(shard))
    return {
        f"{group.name}.mean": nearest_bf16((torch.randn(group.in_features, generator=generator) + 0.5) / 4)
        for group in groups
    }


def _center_readers(
    component: SmoothedTransformer,
    shard: str,
    outside: Mapping[str, Tensor],
    tensors: dict[str, Tensor],
    decisions: Mapping[str, dict[str, object]],
) -> None:
    """Let the biases of the linears in `shard` take what the means in `tensors` and `outside` are to them."""
    for linear in (linear.name for linear in component.topology.linears if linear.shard == shard):
        mean = {**outside, **tensors}.get(f"{component.topology.group_of(linear).name}.mean")
        if mean is not None:
            weights = {linear: component.linear(linear).float()}
            tensors |= with_mean(_current(component, tensors), weights, mean)
            decisions[linear]["centered"] = True


def _current(component: SmoothedTransformer, tensors: Mapping[str, Tensor]) -> Callable[[str], Tensor]:
    """Reads a tensor in fp32, as it has become so far."""
    return lambda name: tensors[name] if name in tensors else component.plain([name])[name].float()
