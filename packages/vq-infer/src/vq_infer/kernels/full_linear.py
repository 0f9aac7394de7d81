"""The linear layer that stays in full precision between those that run on codes."""

from typing import Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vq_core.numerics.quantize import Quantized
from vq_core.numerics.rotation import NONE


class FullLinear(nn.Module):
    """Y = X·Wᵀ + b, with the attributes by which a block chooses what comes before a `QuantLinear`: nothing here.

    Attributes:
        weight: `[out, in]`, in the model's dtype.
        bias: `[out]`, or None.
    """

    weight: Tensor
    bias: Tensor | None
    activation = None
    gain = None
    mean = None
    rotation = NONE

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    @classmethod
    def stacked(cls, *linears: nn.Linear) -> Self:
        """One linear with the outputs of `linears`, which read the same input, side by side.

        Raises:
            ValueError: only some have a bias.
        """
        biases = [cast(Tensor | None, linear.bias) for linear in linears]
        present = [bias.detach() for bias in biases if bias is not None]
        if len(present) not in (0, len(linears)):
            raise ValueError("linears with and without a bias cannot be one")
        weight = torch.cat([linear.weight.detach() for linear in linears])
        return cls(weight, torch.cat(present) if present else None)

    def forward(self, x: Tensor) -> Tensor:
        """`[..., in]` → `[..., out]` in the dtype of `x`."""
        return self.of_tokens(x, x.dtype)

    def of_tokens(self, tokens: Quantized | Tensor, dtype: torch.dtype) -> Tensor:
        """`[..., in]` → `[..., out]` in `dtype`.

        Raises:
            ValueError: they are codes.
        """
        if not isinstance(tokens, Tensor):
            raise ValueError("tokens that are quantized, and a weight that is not")
        return F.linear(tokens, self.weight, self.bias).to(dtype)

    def extra_repr(self) -> str:
        """Sizes, for `print(model)`."""
        out_features, in_features = self.weight.shape
        return f"{in_features} → {out_features}, full precision"
