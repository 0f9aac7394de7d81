"""Refusal of NaN and infinity, which absmax and comparisons can hide."""

import torch
from torch import Tensor

from vq_core.errors import VqError


def is_finite(tensor: Tensor) -> Tensor:
    """Whether no element of `tensor`, which is not empty, is NaN or infinite: bool `[]` on its device."""
    # The extremes propagate NaN and show infinities in one pass without a copy.
    return torch.isfinite(torch.stack(torch.aminmax(tensor))).all()


def require_finite(tensor: Tensor, name: str, where: object) -> None:
    """Refuse `tensor` if any element is NaN or infinite.

    Raises:
        VqError: names the tensor, where it came from, and how many elements are bad.
    """
    if not tensor.is_floating_point() or tensor.dtype == torch.float8_e4m3fn:
        return
    if tensor.numel() and not is_finite(tensor):  # only a bad tensor is looked at closely
        bad = int((~torch.isfinite(tensor)).sum())
        raise VqError(
            f"`{name}` in {where} has {bad} values of {tensor.numel()} that are NaN or infinite: "
            "the source is damaged, get it again or repair that tensor."
        )
