"""The inputs on which the linears of a group are solved and judged, from the tokens that `vq-calib collect` sampled."""

from collections.abc import Collection
from dataclasses import dataclass, field, replace

import torch.nn.functional as F
from torch import Tensor

from vq_algos.layer.inputs import LinearInputs, Sampled, sampled
from vq_algos.smoothing.gelu_rescale import gelu
from vq_core.artifacts.stats import ActivationStats, Split, Tokens
from vq_core.artifacts.weights import SmoothedTransformer
from vq_core.numerics.finite import require_finite
from vq_core.numerics.quantize import dequantize, quantize_tokens
from vq_core.numerics.rotation import NONE, rotate
from vq_core.numerics.scheme import NumberFormat
from vq_core.topology import Group, block_of

SPLITS: tuple[Split, Split] = ("fit", "held-out")


@dataclass(frozen=True)
class SampledInputs:
    """The sampled inputs of one transformer.

    Attributes:
        name: the component's name.
        component: its smoothed weights, which have the gains.
        stats: statistics with sampled tokens.
        device: the device that the tokens are loaded to.
        centered: names of the groups that span all blocks and lose their mean.
    """

    name: str
    component: SmoothedTransformer
    stats: ActivationStats
    device: str
    centered: Collection[str] = ()
    _shared: dict[tuple[str, NumberFormat, int], LinearInputs] = field(default_factory=dict, init=False)

    def inputs_of(
        self, group: Group, activation: NumberFormat, rotation: int = NONE, mean: Tensor | None = None
    ) -> LinearInputs:
        """What the linears of `group` read, `rotation` channels rotated together, after `mean` `[in]` was subtracted.

        Tokens are quantized to the format `activation`.

        The inputs of a group that spans all blocks are kept as its linears are solved on them, centered or not.

        Raises:
            VqError: no tokens of the group were sampled, or one is not finite.
        """
        key = (group.name, activation, rotation)
        kept = block_of(group.name) is None and (mean is not None) == (group.name in self.centered)
        if kept and key in self._shared:
            return self._shared[key]
        inputs = LinearInputs(*(self._sampled(group, split, activation, rotation, mean) for split in SPLITS))
        if kept:
            self._shared[key] = inputs
        return inputs

    def mean_of(self, group: Group) -> Tensor:
        """The mean of what the linears of `group` read over the fit tokens, fp32 `[in]`."""
        tokens = self._tokens(group, "fit")
        share = tokens.weight / tokens.weight.sum()
        return share @ (tokens.rows.float() * self.component.input_gain(group, self.device))

    def _sampled(
        self, group: Group, split: Split, activation: NumberFormat, rotation: int, mean: Tensor | None
    ) -> Sampled:
        gain = self.component.input_gain(group, self.device)
        inputs = sampled(self._tokens(group, split), gain, activation, rotation, mean)
        if group.gelu_sink is None or bool((gain == 1).all()):
            return inputs
        # Behind a rescaled GELU the input is not the model's own times the gain: compute what the runtime will compute.
        (up,) = group.gelu_sink.linears
        above = self.component.topology.group_of(up)
        weight, bias = self.component.plain([f"{up}.weight", f"{up}.bias"], self.device).values()
        x = self._tokens(above, split).rows.float() * self.component.input_gain(above, self.device)
        hidden = gelu(F.linear(x, weight.float(), bias.float()))
        hidden = rotate(hidden if mean is None else hidden - mean, rotation)
        return replace(inputs, x_hat=dequantize(quantize_tokens(hidden, activation)))

    def _tokens(self, group: Group, split: Split) -> Tokens:
        tokens = self.stats.tokens(self.name, group.name, split, self.device)
        require_finite(tokens.rows, f"{group.name}, sampled tokens", self.stats.artifact.path)
        return tokens
