"""The gains of a checkpoint, recovered from it and its model.

Folded gains are not stored: as they are bfloat16 values, the ratio between a folded producer and the original one gives
them back. An fp32 bias does so exactly; a bias in bfloat16 leaves two or three values, of which the weights choose one.
If the exporter forgot to fold into a producer, the linears that read it show the error.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vq_core.model.transformer_reader import CodesReader, TransformerReader
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.quantize import dequantize
from vq_core.topology import Group, LinearSink, ModulationSink, NormSink, ProjectionSink, shard_of

FP32_ROUNDING = 2.0**-20
"""Relative error within which a bias, rounded once or twice in fp32, counts as the original times a gain."""
RATIO_TOLERANCE = {"int8": 0.02, "fp8": 0.05, "w6a8": 0.03, "w4a8": 0.1}
"""By scheme, how far the rounding of a weight may move the factor that fits one of its rows."""
FULL_TOLERANCE = RATIO_TOLERANCE["int8"]
"""The same of a weight in full precision."""

NON_BLOCK = "non_block"
Gains = dict[Group, Tensor]


@dataclass(frozen=True)
class GainFinder:
    """Finds the gains of the groups of one transformer.

    Attributes:
        component: the transformer in the checkpoint.
        original: the same in full precision.
        smoothed: is `original` smoothed already? Then there is nothing to find.
        rescaled: may rows before GELU have been rescaled too?
        changed: names of biases that are not the original's times a gain, because rounding has corrected or centered
            them: they say nothing of it.
    """

    component: CodesReader
    original: TransformerReader[Tensor]
    smoothed: bool
    rescaled: bool
    changed: frozenset[str] = frozenset()
    device: str = "cpu"

    def row_tolerance(self, linear: str) -> float:
        """How far the factor that fits a row of `linear` may be from what multiplied it."""
        if f"{linear}.weight" not in self.component.topology.weights:
            return FULL_TOLERANCE
        return RATIO_TOLERANCE[self.component.scheme_of(linear).name]

    def gains(self, shard: str, known: Mapping[Group, Tensor]) -> Gains:
        """`known` gains and those of the groups of one shard.

        For a block, `known` must have the gains of `non_block`, whose groups span the model.
        """
        if self.smoothed:
            return {}
        plain = self.component.plain(self.component.topology.plain_shards()[shard], self.device)
        gains = dict(known)
        topology = self.component.topology
        for group in (*topology.groups, *topology.across_blocks):
            if shard_of(group.name) == shard and group not in known:
                gain = self._gain(group, plain, gains)
                if gain is not None:
                    gains[replace(group, sink=group.sink or group.gelu_sink)] = gain
        return gains

    def _gain(self, group: Group, plain: Mapping[str, Tensor], gains: Mapping[Group, Tensor]) -> Tensor | None:
        match group.sink:
            case ModulationSink(name):
                return self.component.gain(name, self.device)
            case NormSink(producer):
                return self._of_producers((producer,), plain, gains)
            case LinearSink(producers):
                return self._of_producers(producers, plain, gains)
            case ProjectionSink():
                return self._of_projection(group, plain)
            case None if self.rescaled and group.gelu_sink is not None:
                # The rescale through GELU only makes rows smaller.
                return self._of_producers(group.gelu_sink.linears, plain, gains).clamp(max=1)
        return None

    def _of_projection(self, group: Group, plain: Mapping[str, Tensor]) -> Tensor | None:
        """The factor of the rows of the projection that scale and shift the inputs of all blocks; None for ones."""
        assert isinstance(group.sink, ProjectionSink)
        parts = self._of_producers((group.sink.projection,), plain, {}).unflatten(0, (-1, group.in_features))
        scale, shift = parts[group.sink.scale], parts[group.sink.shift]
        gain = torch.where(scale == 1, shift, scale)
        return gain if bool((gain != 1).any()) else None

    def _of_producers(
        self, producers: tuple[str, ...], plain: Mapping[str, Tensor], gains: Mapping[Group, Tensor]
    ) -> Tensor:
        """The factor of each row of all `producers`: one that biases confirm, else that of the first one's weights.

        Quantized weights give the factor up to their rounding. Of the gains that fold into the biases as they are
        stored, the nearest to it is taken. Rows of zeros give no factor, and count as multiplied by one.
        """
        by_weight = {f"{producer}.bias": self._row_ratio(producer, plain, gains) for producer in producers}
        before_folding = self.original.plain([name for name in by_weight if name not in self.changed], self.device)
        biases = {name: (tensor.float(), plain[name]) for name, tensor in before_folding.items()}
        ratio = next(iter(by_weight.values()))
        if biases:
            ratio = self._confirmed(ratio, by_weight, biases)
        return nearest_bf16(torch.where(torch.isfinite(ratio) & (ratio != 0), ratio, torch.ones_like(ratio)))

    def _confirmed(
        self, likely: Tensor, by_weight: Mapping[str, Tensor], biases: Mapping[str, tuple[Tensor, Tensor]]
    ) -> Tensor:
        """In each row the gain nearest to the `likely` one that most `biases`, original and stored, confirm."""
        candidates = torch.cat([_around(stored.float() / before) for before, stored in biases.values()])
        confirmed = torch.zeros_like(candidates)
        for name, (before, stored) in biases.items():
            ratio, tolerance = by_weight[name], self.row_tolerance(name.removesuffix(".bias"))
            agrees = (candidates - ratio).abs() <= tolerance * ratio.abs()
            confirmed += _gives(before, candidates, stored) & (agrees | ~torch.isfinite(ratio))
        distance = torch.where(torch.isfinite(likely), candidates - likely, 0.0).abs()
        most = confirmed.amax(dim=0)
        nearest = distance.masked_fill(confirmed < most, torch.inf).argmin(dim=0, keepdim=True)
        return torch.where(most > 0, candidates.gather(0, nearest)[0], likely)

    def _row_ratio(self, producer: str, plain: Mapping[str, Tensor], gains: Mapping[Group, Tensor]) -> Tensor:
        """The factor that fits the weights of `producer` best in each row, `[rows]`; NaN for zeros."""
        weight = f"{producer}.weight"
        reference = self.original.plain([weight], self.device)[weight].float()
        for group, gain in gains.items():
            reference = reference / gain if producer in group.reads else reference
        if weight in plain:
            after = plain[weight].float()
        else:
            quantized = self.component.linear(producer, self.device)
            inside = _is_inside(quantized.codes)
            after, reference = dequantize(quantized) * inside, reference * inside
        after, reference = (rows.reshape(rows.shape[0], -1) for rows in (after, reference))
        return (after * reference).sum(dim=1) / reference.square().sum(dim=1)


def _around(ratio: Tensor) -> Tensor:
    """The bfloat16 value nearest to `ratio` `[rows]`, and its two neighbours: `[3, rows]`, fp32."""
    bits = ratio.bfloat16().view(torch.int16)
    return torch.stack([(bits + step).view(torch.bfloat16).float() for step in (-1, 0, 1)])


def _gives(before: Tensor, gains: Tensor, stored: Tensor) -> Tensor:
    """Which `gains` `[n, rows]` turn the bias `before` `[rows]` into the `stored` one, in the dtype that it has."""
    folded = (before * gains).to(stored.dtype).float()
    return (folded - stored.float()).abs() <= FP32_ROUNDING * stored.float().abs()


def _is_inside(codes: Tensor) -> Tensor:
    """Which `codes` `[out, in]` are smaller than the row's largest: clipping has not changed them."""
    magnitude = codes.float().abs()
    inside = magnitude < magnitude.amax(dim=1, keepdim=True)
    return inside | ~inside.any(dim=1, keepdim=True)
