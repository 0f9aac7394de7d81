"""The gains of a checkpoint, recovered from it and its model.

Folded gains are not stored: as they are bfloat16 values, the ratio between a folded producer and the original one gives
them back exactly. If the exporter forgot to fold into a producer, the linears that read it show the error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vq_core.model.transformer_reader import TransformerReader
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.quantize import Quantized, dequantize
from vq_core.numerics.scheme import NumberFormat
from vq_core.topology import Group, LinearSink, ModulationSink, NormSink, shard_of

FP32_ROUNDING = 2.0**-20
"""Relative error within which a quotient of fp32 values, each rounded once or twice, counts as a bfloat16 value."""
RATIO_TOLERANCE = {NumberFormat.INT8: 0.02, NumberFormat.FP8_E4M3: 0.05}
"""How far the rounding of a weight may move the factor that fits one of its rows."""

NON_BLOCK = "non_block"
Gains = dict[Group, Tensor]


@dataclass(frozen=True)
class GainFinder:
    """Finds the gains of the groups of one transformer.

    Attributes:
        component: the transformer in the checkpoint.
        original: the same in full precision.
        smoothed: is `original` smoothed already? Then there is nothing to find.
        fmt: the format of the weights.
        rescaled: may rows before GELU have been rescaled too?
    """

    component: TransformerReader[Quantized]
    original: TransformerReader[Tensor]
    smoothed: bool
    fmt: NumberFormat
    rescaled: bool
    device: str = "cpu"

    def gains(self, shard: str, known: Mapping[Group, Tensor]) -> Gains:
        """`known` gains and those of the groups of one shard.

        For a block, `known` must have the gains of `non_block`, whose groups span the model.
        """
        if self.smoothed:
            return {}
        plain = self.component.plain(self.component.topology.plain_shards()[shard], self.device)
        gains = dict(known)
        for group in self.component.topology.groups:
            if shard_of(group.name) != shard or group in known:
                continue
            match group.sink:
                case ModulationSink(name):
                    gain = self.component.gain(name, self.device)
                    if gain is not None:
                        gains[group] = gain
                case NormSink(producer):
                    gains[group] = self._of_producers((producer,), plain, gains)
                case LinearSink(producers):
                    gains[group] = self._of_producers(producers, plain, gains)
                case None if self.rescaled and group.gelu_sink is not None:
                    # The rescale through GELU only makes rows smaller.
                    gain = self._of_producers(group.gelu_sink.linears, plain, gains)
                    gains[replace(group, sink=group.gelu_sink)] = gain.clamp(max=1)
                case None:
                    pass
        return gains

    def _of_producers(
        self, producers: tuple[str, ...], plain: Mapping[str, Tensor], gains: Mapping[Group, Tensor]
    ) -> Tensor:
        """The factor of each row of all `producers`: exact where a bias gives it, else from the first one's weights.

        Rows of zeros give none, and count as multiplied by one.
        """
        ratios = [self._ratios(producer, plain, gains) for producer in producers]
        ratio = ratios[0][1]
        for exact, _ in reversed(ratios):
            ratio = torch.where(torch.isfinite(exact), exact, ratio)
        return nearest_bf16(torch.where(torch.isfinite(ratio) & (ratio != 0), ratio, torch.ones_like(ratio)))

    def _ratios(
        self, producer: str, plain: Mapping[str, Tensor], gains: Mapping[Group, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The factor of each row of `producer`, from its biases (NaN where they do not give it) and from its weights.

        Quantized weights give the factor up to their rounding. Biases give it exactly; where the ratio is not a
        bfloat16 value, or is far from that of the weights, rounding has corrected the bias.
        """
        weight, bias = f"{producer}.weight", f"{producer}.bias"
        before = self.original.plain([weight, bias], self.device)
        reference = before[weight].float()
        if weight in plain:
            after = plain[weight].float()
        else:
            own_gain = gains.get(self.component.topology.group_of(producer))
            reference = reference if own_gain is None else reference / own_gain
            quantized = self.component.linear(producer, self.device)
            inside = _is_inside(quantized.codes)
            after, reference = dequantize(quantized) * inside, reference * inside
        by_weight = _row_ratio(after, reference)
        by_bias = plain[bias].float() / before[bias].float()
        is_gain = (by_bias - nearest_bf16(by_bias)).abs() <= FP32_ROUNDING * by_bias.abs()
        agrees = (by_bias - by_weight).abs() <= RATIO_TOLERANCE[self.fmt] * by_weight.abs()
        tells = is_gain & (agrees | ~torch.isfinite(by_weight))
        return torch.where(tells, by_bias, torch.full_like(by_bias, torch.nan)), by_weight


def _is_inside(codes: Tensor) -> Tensor:
    """Which `codes` `[out, in]` are smaller than the row's largest: clipping has not changed them."""
    magnitude = codes.float().abs()
    inside = magnitude < magnitude.amax(dim=1, keepdim=True)
    return inside | ~inside.any(dim=1, keepdim=True)


def _row_ratio(after: Tensor, before: Tensor) -> Tensor:
    """The factor that fits after = factor · before best in each row, `[rows, …]` → `[rows]`; NaN for zeros."""
    after, before = (rows.reshape(rows.shape[0], -1) for rows in (after, before))
    return (after * before).sum(dim=1) / before.square().sum(dim=1)
