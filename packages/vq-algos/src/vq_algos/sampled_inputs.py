"""Where the inputs come from on which a group is solved and judged: the tokens that `vq-calib collect` sampled."""

from dataclasses import dataclass, field

from vq_algos.inputs import Inputs, Sampled, sampled
from vq_core.artifacts.stats import ActivationStats, Split
from vq_core.artifacts.weights import SmoothedComponent
from vq_core.numerics.finite import require_finite
from vq_core.scheme import NumberFormat
from vq_core.topology import Group, block_of


@dataclass(frozen=True)
class SampledInputs:
    """The sampled inputs of one transformer.

    Attributes:
        name: of the component.
        component: its smoothed weights, for the gains.
        stats: with sampled tokens.
        activation: the format in which tokens are quantized.
        device: where the tokens go.
    """

    name: str
    component: SmoothedComponent
    stats: ActivationStats
    activation: NumberFormat
    device: str
    _shared: dict[str, Inputs] = field(default_factory=dict, init=False)

    def inputs_of(self, group: Group) -> Inputs:
        """What the linears of `group` read; those of a group that spans all blocks are kept once they were asked for.

        Raises:
            VqError: no tokens of the group were sampled, or one is not finite.
        """
        if group.name in self._shared:
            return self._shared[group.name]
        shared = block_of(group.name) is None
        inputs = Inputs(self._sampled(group, "fit"), self._sampled(group, "held-out"), shared)
        if shared:
            self._shared[group.name] = inputs
        return inputs

    def _sampled(self, group: Group, split: Split) -> Sampled:
        tokens = self.stats.tokens(self.name, group.name, split, self.device)  # type: ignore[attr-defined]
        require_finite(tokens.rows, f"{group.name}, sampled tokens", self.stats.artifact.path)
        return sampled(tokens, self.component.gain(group, self.device), self.activation)
