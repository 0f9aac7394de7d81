"""How far each quantized linear of a checkpoint is from the full-precision weight, smoothing accounted for.

The checkpoint does not say how it was smoothed, and need not: gains are bfloat16 values, so the ratio between a folded
producer and the original one gives them back exactly. A producer that was forgotten shows as an error of its own.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import Checkpoint, CheckpointComponent
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.folding import fold_group
from vq_core.numerics.quantize import dequantize, snr_db
from vq_core.progress import progress
from vq_core.source import Checkpoint as ModelCheckpoint
from vq_core.source import Source
from vq_core.store import require_same_model
from vq_core.topology import Group, LinearSink, ModulationSink, NormSink, block_of


def linear_snr_db(checkpoint: Checkpoint, source: Source, *, device: str = "cpu") -> dict[str, dict[str, float]]:
    """By component and linear, the SNR in dB of the dequantized weight against the folded original.

    Raises:
        VqError: the checkpoint was not made from `source`.
    """
    require_same_model(checkpoint.artifact, source.fingerprints, source.name)
    snrs: dict[str, dict[str, float]] = {}
    total = sum(component.topology.num_blocks for component in checkpoint.components.values())
    with progress("compare", total, "block") as advance:
        for name, component in checkpoint.components.items():
            original = source.components[name]
            shared = _gains(component, original, None, {}, device)
            snrs[name] = {}
            for block in range(component.topology.num_blocks):
                gains = _gains(component, original, block, shared, device)
                snrs[name] |= _block_snr_db(component, original, block, gains, device)
                advance()
    return snrs


def _block_snr_db(
    component: CheckpointComponent, original: ModelCheckpoint, block: int, gains: dict[Group, Tensor], device: str
) -> dict[str, float]:
    linears = [linear.name for linear in component.topology.linears if linear.block == block]
    folded = original.load([f"{name}.weight" for name in linears], device)
    for group, gain in gains.items():
        fold_group(folded, group, gain)
    return {name: snr_db(folded[f"{name}.weight"], dequantize(component.linear(name, device))) for name in linears}


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
    """What multiplied the rows of `producer`: the ratio of its biases, or of its weights where the bias is zero."""
    weight, bias = f"{producer}.weight", f"{producer}.bias"
    before = original.load([weight, bias], device)
    if weight in plain:
        after = plain[weight].float()
    else:
        own_gain = gains.get(component.topology.group_of(producer))
        after = dequantize(component.linear(producer, device))
        after = after if own_gain is None else after * own_gain
    by_weight = _row_ratio(after, before[weight].float())
    by_bias = _row_ratio(plain[bias].float(), before[bias].float())
    ratio = torch.where(before[bias] != 0, by_bias, by_weight)
    return nearest_bf16(torch.where(torch.isfinite(ratio) & (ratio != 0), ratio, torch.ones_like(ratio)))


def _row_ratio(after: Tensor, before: Tensor) -> Tensor:
    """The factor that fits `after` = factor · `before` best in each row, `[rows, …]` → `[rows]`; NaN for rows of zeros."""
    after, before = (rows.reshape(rows.shape[0], -1) for rows in (after, before))
    return (after * before).sum(dim=1) / before.square().sum(dim=1)
