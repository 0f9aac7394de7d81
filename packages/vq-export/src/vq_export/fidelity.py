"""How far each quantized linear of a checkpoint is from the full-precision weight, smoothing accounted for.

The checkpoint does not say how it was smoothed, and need not: gains are bfloat16 values, so the ratio between a folded
producer and the original one gives them back exactly. A producer that was forgotten shows as an error of its own.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import Checkpoint, CheckpointComponent
from vq_core.errors import VqError
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.folding import fold_group
from vq_core.numerics.quantize import Quantized, dequantize, snr_db, weight_scale
from vq_core.numerics.rounding import round_to_codes
from vq_core.progress import progress
from vq_core.scheme import NumberFormat
from vq_core.source import Checkpoint as ModelCheckpoint
from vq_core.source import Source
from vq_core.store import require_same_model
from vq_core.topology import Group, LinearSink, ModulationSink, NormSink, block_of

BF16_ROUNDING = 2.0**-9
"""Largest relative error of a cast to bfloat16, in which folded weights may have been stored."""
FP32_ROUNDING = 2.0**-20
"""Relative error within which a quotient of fp32 values, each rounded once or twice, counts as a bfloat16 value."""
RATIO_TOLERANCE = 0.02
"""How far the rounding of a weight may move the factor that fits one of its rows."""
SMALLEST_CLIP = 0.55
"""Rounders search clipped scales from 0.6 of the absmax's on."""
NEAREST = ("rtn", "clip")
"""Rounders whose codes are the nearest ones at their scale; others move the error of a column into later ones."""
MULTIPLE = 0.99
"""The share of its noise that lies along a column which as a whole is a multiple of what it should be."""


@dataclass(frozen=True)
class LinearError:
    """The difference between a dequantized weight and the folded original.

    Attributes:
        snr_db: over the whole weight.
        excess_db: noise power in the worst row or column, over what rounding to nearest leaves in that row or column at
            the checkpoint's scale. The whole weight's SNR would not show one wrong scale or gain among thousands.
    """

    snr_db: float
    excess_db: float


def require_made_from(checkpoint: Checkpoint, source: Source) -> None:
    """Refuse `source` unless it is the model that `checkpoint` was made from.

    Raises:
        VqError: another model, or one without some of the checkpoint's transformers.
    """
    if source.has_gains:
        raise VqError(
            f"{source.name} came smoothed, which verify cannot undo: verify {checkpoint.artifact.path} without it."
        )
    require_same_model(checkpoint.artifact, source.fingerprints, source.name)
    if lacking := sorted(checkpoint.components.keys() - source.components.keys()):
        raise VqError(f"{source.name} has no {lacking[0]}, which {checkpoint.artifact.path} has: give the whole model.")


def linear_errors(checkpoint: Checkpoint, source: Source, *, device: str = "cpu") -> dict[str, dict[str, LinearError]]:
    """By component and linear, how far the dequantized weight is from the folded original of `source`.

    Raises:
        VqError: see `require_made_from`.
    """
    require_made_from(checkpoint, source)
    how = cast(dict[str, str], checkpoint.artifact.manifest.settings["quantize"])
    nearest = how["method"] in NEAREST
    errors: dict[str, dict[str, LinearError]] = {}
    total = sum(component.topology.num_blocks for component in checkpoint.components.values())
    with progress("compare", total, "block") as advance:
        for name, component in checkpoint.components.items():
            original = source.components[name]
            shared = _gains(component, original, None, {}, device)
            errors[name] = {}
            for block in range(component.topology.num_blocks):
                gains = _gains(component, original, block, shared, device)
                for linear in component.topology.linears:
                    if linear.block == block:
                        folded = _folded(original, linear.name, gains, device)
                        quantized = component.linear(linear.name, device)
                        errors[name][linear.name] = linear_error(
                            folded, quantized, checkpoint.scheme.weight, nearest=nearest
                        )
                advance()
    return errors


def linear_snr_db(checkpoint: Checkpoint, source: Source, *, device: str = "cpu") -> dict[str, dict[str, float]]:
    """By component and linear, the SNR in dB of `linear_errors`."""
    errors = linear_errors(checkpoint, source, device=device)
    return {name: {linear: error.snr_db for linear, error in linears.items()} for name, linears in errors.items()}


def linear_error(folded: Tensor, quantized: Quantized, fmt: NumberFormat, *, nearest: bool = True) -> LinearError:
    """Compare `quantized` with the weight `folded` `[out, in]` and with that weight rounded to nearest in `fmt`.

    Unless codes are the `nearest`, columns may bear any noise that is not a wrong gain: what a column takes over from
    others grows as its input matters less.
    """
    dequantized = dequantize(quantized)
    difference = folded - dequantized
    noise = difference.square()
    scale = _scale(folded, quantized.scale, fmt)
    rounded = dequantize(Quantized(round_to_codes(folded / scale, fmt), scale))
    expected = (folded - rounded).square() + (BF16_ROUNDING * folded).square()
    columns = noise.sum(0) if nearest else _along(difference, folded)
    nothing = torch.finfo(torch.float32).tiny
    excess = max(
        float((found / expected.sum(dim).clamp(min=nothing)).max()) for dim, found in ((0, columns), (1, noise.sum(1)))
    )
    return LinearError(snr_db(folded, dequantized), 10 * math.log10(max(excess, nothing)))


def _scale(folded: Tensor, scale: Tensor, fmt: NumberFormat) -> Tensor:
    """The `scale` of the checkpoint, or that of the row's absmax where no rounder would have chosen it."""
    of_absmax = weight_scale(folded, fmt)
    return torch.where((scale <= of_absmax) & (scale >= SMALLEST_CLIP * of_absmax), scale, of_absmax)


def _along(difference: Tensor, folded: Tensor) -> Tensor:
    """Noise of the columns whose noise is nearly all along the column itself; zero for the others."""
    noise = difference.square().sum(0)
    along = (difference * folded).sum(0).square() / folded.square().sum(0).clamp(min=torch.finfo(torch.float32).tiny)
    return torch.where(along > MULTIPLE * noise, noise, torch.zeros_like(noise))


def _folded(original: ModelCheckpoint, linear: str, gains: Mapping[Group, Tensor], device: str) -> Tensor:
    name = f"{linear}.weight"
    tensors = original.load([name], device)
    for group, gain in gains.items():
        fold_group(tensors, group, gain)
    return tensors[name].float()


def _gains(
    component: CheckpointComponent,
    original: ModelCheckpoint,
    block: int | None,
    known: Mapping[Group, Tensor],
    device: str,
) -> dict[Group, Tensor]:
    """`known` gains and those of the groups of one block, or of the groups that span the model (`block=None`)."""
    plain = component.plain(device, "non_block" if block is None else f"block_{block}")
    gains = dict(known)
    for group in component.topology.groups:
        if block_of(group.name) != block:
            continue
        match group.sink:
            case ModulationSink(name):
                gain = component.gain(name, device)
                if gain is not None:
                    gains[group] = gain
            case NormSink(producer) | LinearSink((producer, *_)):
                gains[group] = _producer_gain(component, original, producer, plain, gains, device)
            case None:
                pass
    return gains


def _producer_gain(
    component: CheckpointComponent,
    original: ModelCheckpoint,
    producer: str,
    plain: Mapping[str, Tensor],
    gains: Mapping[Group, Tensor],
    device: str,
) -> Tensor:
    """What multiplied the rows of `producer`: the ratio of its biases, or that of its weights where this is not exact.

    Quantized weights give the ratio up to their rounding. Biases give it exactly, which shows in that it is a bfloat16
    value; where it is not, or is far from that of the weights, rounding corrected the bias.
    """
    weight, bias = f"{producer}.weight", f"{producer}.bias"
    before = original.load([weight, bias], device)
    reference = before[weight].float()
    if weight in plain:
        after = plain[weight].float()
    else:
        own_gain = gains.get(component.topology.group_of(producer))
        reference = reference if own_gain is None else reference / own_gain
        quantized = component.linear(producer, device)
        inside = _is_inside(quantized.codes)
        after, reference = dequantize(quantized) * inside, reference * inside
    by_weight = _row_ratio(after, reference)
    by_bias = plain[bias].float() / before[bias].float()
    is_gain = (by_bias - nearest_bf16(by_bias)).abs() <= FP32_ROUNDING * by_bias.abs()
    agrees = (by_bias - by_weight).abs() <= RATIO_TOLERANCE * by_weight.abs()
    ratio = torch.where(is_gain & agrees, by_bias, by_weight)
    return nearest_bf16(torch.where(torch.isfinite(ratio) & (ratio != 0), ratio, torch.ones_like(ratio)))


def _is_inside(codes: Tensor) -> Tensor:
    """Which `codes` `[out, in]` are smaller than the row's largest: those that clipping has left as they were."""
    magnitude = codes.float().abs()
    inside = magnitude < magnitude.amax(dim=1, keepdim=True)
    return inside | ~inside.any(dim=1, keepdim=True)


def _row_ratio(after: Tensor, before: Tensor) -> Tensor:
    """The factor that fits after = factor · before best in each row, `[rows, …]` → `[rows]`; NaN for zeros."""
    after, before = (rows.reshape(rows.shape[0], -1) for rows in (after, before))
    return (after * before).sum(dim=1) / before.square().sum(dim=1)
