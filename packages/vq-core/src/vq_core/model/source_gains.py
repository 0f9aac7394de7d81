"""Gains of modulated norms that a model brings with it: what LLMC's smoothing has put into no weight."""

from collections.abc import MutableMapping

import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.model.lightx2v_gain_names import affine_norm
from vq_core.model.source_layout import StoredTransformer
from vq_core.model.tensor_naming import load_stored
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.topology import Topology


class SourceGains:
    """The gains of one transformer, by the names that `Topology.gains` gives them; all of them, or none.

    Runtimes multiply in bfloat16, so a gain is rounded to it, and weights that are not quantized yet take up the rest.
    """

    def __init__(self, stored: StoredTransformer, topology: Topology) -> None:
        """Look for gains in what is `stored`.

        Raises:
            VqError: some gains are missing or misshapen.
        """
        self._where = stored.where
        self._stored = stored.tensors
        wanted = {tensor: length for gain, length in topology.gains.items() for tensor in affine_norm(gain)}
        self.tensors: tuple[str, ...] = tuple(tensor for tensor in wanted if tensor in stored.tensors)
        """Names of the tensors that hold them."""
        self.present = bool(self.tensors)
        if self.present and len(self.tensors) < len(wanted):
            lost = next(tensor for tensor in wanted if tensor not in stored.tensors)
            raise VqError(f"{stored.where} has gains and lacks `{lost}`: get the missing shard.")
        for tensor in self.tensors:
            if (shape := stored.tensors[tensor].info.shape) != (wanted[tensor],):
                raise VqError(
                    f"`{tensor}` in {stored.where} is {list(shape)} and should be [{wanted[tensor]}]: get it again."
                )
        self._of_weight = {
            f"{linear.name}.weight": gain
            for linear in topology.linears
            if self.present and (gain := topology.gain_of(linear.name)) is not None
        }

    def gain(self, name: str, device: str = "cpu") -> Tensor | None:
        """The gain `name` as bfloat16 values, fp32 `[dim]`; None where the transformer has none.

        Raises:
            VqError: scale and shift of a norm have different gains, or one is not positive and finite.
        """
        return nearest_bf16(self._exact(name, device)) if self.present else None

    def absorb_rounding(self, tensors: MutableMapping[str, Tensor]) -> None:
        """Multiply the columns of those of `tensors` that read a gain by what its rounding to bfloat16 has taken away.

        They become fp32 where that is not one.
        """
        for name in self._of_weight.keys() & tensors.keys():
            exact = self._exact(self._of_weight[name], str(tensors[name].device))
            rest = exact / nearest_bf16(exact)
            if not torch.all(rest == 1):
                tensors[name] = tensors[name].float() * rest

    def _exact(self, gain: str, device: str) -> Tensor:
        weight, bias = affine_norm(gain)
        loaded = load_stored({name: self._stored[name] for name in (weight, bias)}, device)
        if not torch.equal(loaded[weight], loaded[bias]):
            raise VqError(
                f"`{weight}` and `{bias}` in {self._where} differ, so scale and shift of that norm were smoothed "
                "differently (LLMC's OsPlus does it), which no linear can make up for: smooth the model again."
            )
        exact = loaded[weight].float()
        if not bool((torch.isfinite(exact) & (exact > 0)).all()):
            raise VqError(
                f"`{weight}` in {self._where} has values that are no positive numbers: smooth the model again."
            )
        return exact
