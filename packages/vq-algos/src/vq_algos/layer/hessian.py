"""The Hessian of a linear's output error, and the triangular factor from which GPTQ rounds.

With d = w − ŵ for one row of the weight, the output error on the sampled inputs is Σ_t w_t (x̂_t·d)² = d·H·dᵀ, where
H = Σ_t w_t x̂_tᵀx̂_t `[in, in]`. It does not depend on the row, so every linear that reads the input shares it.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

TOKENS_AT_ONCE = 1024
"""Rows of x̂ that are held in fp64 while H is summed."""
COLUMNS_AT_ONCE = 512
"""Columns of the factor that are held in fp64 a second time while it is turned into fp32."""
ROWS_AT_ONCE = 1024
"""Rows of H in one piece of its triangle."""
RAISE = 10.0
"""The factor by which damping grows while the damped H is not positive definite."""


@dataclass(frozen=True)
class Factor:
    """A damped H = U·Uᵀ with U upper triangular, in the order in which columns are rounded.

    Attributes:
        order: int64 `[in]`, channel k of the order is channel `order[k]` of the input.
        couplings: fp32 `[in, in]`, strictly upper: U_kj / U_jj, by which an error in column k moves the target of j.
        damp: the λ that was added as λ·mean(diag H): the given one, or raised until H was positive definite.
    """

    order: Tensor
    couplings: Tensor
    damp: float


class Hessian:
    """H of the inputs `x_hat` fp32 `[tokens, in]` with token weights `weight` `[tokens]`, computed on first use."""

    def __init__(self, x_hat: Tensor, weight: Tensor) -> None:
        self._x_hat = x_hat
        self._weight = weight

    @cached_property
    def _diagonal(self) -> Tensor:
        """diag(H), fp64 `[in]`."""
        parts = zip(self._x_hat.split(TOKENS_AT_ONCE), self._weight.split(TOKENS_AT_ONCE), strict=True)
        return torch.stack([weight.double() @ rows.double().square() for rows, weight in parts]).sum(dim=0)

    @cached_property
    def _ascending(self) -> Tensor:
        """Channels by ascending diag(H): the reverse of the order in which they are rounded."""
        return torch.argsort(self._diagonal, stable=True)

    @cached_property
    def _triangle(self) -> list[Tensor]:
        """H from its diagonal on, rows and columns by ascending diagonal: summed in fp64, kept in fp32.

        A few rows each, from the column of the first of them. The rounding moves no eigenvalue by more than 6e-8 of the
        trace, which for 13824 channels is a twelfth of the smallest damping.
        """
        channels = self._ascending
        matrix = torch.zeros(len(channels), len(channels), dtype=torch.float64, device=channels.device)
        for rows, weight in zip(self._x_hat.split(TOKENS_AT_ONCE), self._weight.split(TOKENS_AT_ONCE), strict=True):
            weighted = rows[:, channels].double() * weight.double().sqrt().unsqueeze(1)
            matrix.addmm_(weighted.T, weighted)
        begins = range(0, len(channels), ROWS_AT_ONCE)
        return [matrix[begin : begin + ROWS_AT_ONCE, begin:].float() for begin in begins]

    def _upper(self, dtype: torch.dtype) -> Tensor:
        """H as one matrix `[in, in]`; what stands below the diagonal is meaningless."""
        channels, triangle = len(self._ascending), self._triangle  # summed before there is a second matrix
        matrix = torch.zeros(channels, channels, dtype=dtype, device=self._ascending.device)
        for part in triangle:
            begin = channels - part.shape[1]
            matrix[begin : begin + len(part), begin:] = part
        return matrix

    @cached_property
    def _mean_diagonal(self) -> float:
        """Mean of diag(H) over the channels that were seen."""
        seen = self._diagonal > 0
        return float(self._diagonal.sum() / seen.sum().clamp(min=1))

    def errors(self, difference: Tensor) -> Tensor:
        """Σ_t w_t (x̂_t·d)² for every row d of `difference` fp32 `[out, in]` → fp32 `[out]`.

        By the tokens or by H, whichever is smaller.
        """
        tokens, channels = self._x_hat.shape
        if tokens <= channels:
            # Weighted anew each time: kept, it would take as much memory as x̂ beside the factor's.
            return ((self._x_hat * self._weight.sqrt().unsqueeze(1)) @ difference.T).square().sum(dim=0)
        ordered, upper = difference[:, self._ascending], self._upper(torch.float32).triu()
        return ((ordered @ (upper + upper.triu(1).T)) * ordered).sum(dim=1)

    def factor(self, damp: float) -> Factor:
        """The factor of H + λ·mean(diag H)·1 with λ = `damp`, or ten, a hundred, … times that if H needs more.

        The Cholesky decomposition L·Lᵀ of H in ascending order is U·Uᵀ in the order of rounding: U is L with rows and
        columns reversed, and no inverse is computed. Memory beside H, of which one triangle is kept: one fp64 matrix,
        which L takes, and the couplings in fp32.
        """
        raised = damp
        lower = self._lower(raised)
        while lower is None:
            raised *= RAISE
            lower = self._lower(raised)
        return Factor(self._ascending.flip(0), _couplings(lower), raised)

    def _lower(self, damp: float) -> Tensor | None:
        """L of the damped H, fp64, with 1 for a channel never seen; None if H is not positive definite."""
        # The transposed view is the same symmetric matrix, which LAPACK decomposes in place, without a copy.
        damped = self._upper(torch.float64).T
        diagonal = damped.diagonal()
        diagonal.masked_fill_(diagonal == 0, 1.0)
        diagonal += damp * self._mean_diagonal
        info = torch.empty((), dtype=torch.int32, device=damped.device)
        torch.linalg.cholesky_ex(damped, out=(damped, info))
        return None if int(info) else damped


def _couplings(lower: Tensor) -> Tensor:
    """U_kj / U_jj above the diagonal, in fp32, for U = `lower` with rows and columns reversed."""
    channels = lower.shape[0]
    couplings = torch.empty(lower.shape, dtype=torch.float32, device=lower.device)
    diagonal = lower.diagonal()
    for begin in range(0, channels, COLUMNS_AT_ONCE):
        end = min(begin + COLUMNS_AT_ONCE, channels)
        reverse = slice(channels - end, channels - begin)
        couplings[:, begin:end] = (lower[:, reverse] / diagonal[reverse]).flip(0, 1)
    couplings.fill_diagonal_(0.0)
    return couplings
