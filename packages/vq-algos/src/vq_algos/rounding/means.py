"""Means of the inputs of one transformer: what centering can subtract from them, and the tensors that change then."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from vq_algos.rounding.sampled_inputs import SampledInputs
from vq_core.artifacts.weights import SmoothedTransformer
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.centering import offset_of, storable_mean, subtracts_itself, with_mean, without_mean
from vq_core.topology import Group, block_of

Current = Callable[[str], Tensor]
"""Reads a tensor of the model in fp32, as it has become so far."""


@dataclass(frozen=True)
class Means:
    """The means of one transformer's inputs.

    Attributes:
        weights: its smoothed weights.
        inputs: sampled tokens of its inputs.
        device: the device of all tensors.
        shared: fp32 `[in]`, by group, what is subtracted from inputs that all blocks read.
        subtracts: whether linears behind GELU can subtract the mean of their input by themselves.
    """

    weights: SmoothedTransformer
    inputs: SampledInputs
    device: str
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    subtracts: bool = False

    def of(self, group: Group, current: Current) -> Tensor | None:
        """What can be subtracted from the input of `group`, fp32 `[in]`; of a `shared` one, what is."""
        if block_of(group.name) is None:
            mean = self.shared.get(group.name)
            return None if mean is None else mean.to(self.device)
        return self.storable(group, current)

    def storable(self, group: Group, current: Current) -> Tensor | None:
        """The mean of the input of `group`, fp32 `[in]`, as what produces it can lose it; None where nothing can.

        Behind GELU it is bfloat16 values, which every runtime subtracts alike.
        """
        if subtracts_itself(group):
            return nearest_bf16(self.inputs.mean_of(group)) if self.subtracts else None
        offset = offset_of(self.weights.topology, group)
        if offset is None:
            return None
        gain = self.weights.gain_behind(group, self.device)
        return storable_mean(offset.of(current(offset.tensor)), self.inputs.mean_of(group), gain)

    def changed(self, group: Group, weights: Mapping[str, Tensor], mean: Tensor, current: Current) -> dict[str, Tensor]:
        """What changes in a block where `mean` is subtracted from the input of `group`, fp32 by name, on the host.

        `weights` are fp32 `[out, in]`, by the name of each linear of the block that reads the input.
        """
        biases = {name: bias.cpu() for name, bias in with_mean(current, weights, mean).items()}
        return biases if group.name in self.shared else biases | self.moved(group, mean, current)

    def moved(self, group: Group, mean: Tensor, current: Current) -> dict[str, Tensor]:
        """`GROUP.mean`, and what produces the input of `group` without `mean`, if anything; fp32 on the host."""
        offset, producer = offset_of(self.weights.topology, group), dict[str, Tensor]()
        if offset is not None:
            producer = without_mean(current, offset, self.weights.gain_behind(group, self.device), mean)
        return {name: tensor.cpu() for name, tensor in (producer | {f"{group.name}.mean": mean}).items()}
