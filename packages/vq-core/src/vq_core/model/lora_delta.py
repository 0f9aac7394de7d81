"""The change ΔW that the factors of a LoRA multiply out to, whichever method they are of.

* low rank: B·A, `[out, rank]` times `[rank, in]` (Hu et al. 2021, arXiv 2106.09685); with `lora_mid` M between them as
  LyCORIS' LoCon of a convolution has it, B·M·A;
* LoHa: (A1·B1) ⊙ (A2·B2), elementwise (Hyeon-Woo et al. 2021, arXiv 2108.06098);
* LoKr: W1 ⊗ W2, Kronecker's product, where either may be a product of two (Yeh et al. 2023, arXiv 2309.14859).

With a core T, a factor is Tucker's product of three: Σ_ij T[i, j, …] A[i, p] B[j, r], which is `[p, r, …]`. All are
multiplied by alpha / rank, but for LoKr of two whole factors, which has no rank. A convolution's weight
`[out, in, time, height, width]` is treated as the matrix `[out, in · time · height · width]`.

DoRA (Liu et al. 2024, arXiv 2402.09353) scales what comes out: W' = m · (W + ΔW) / ‖W + ΔW‖, a norm for each output
channel or, in LyCORIS, for each input channel.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from vq_core.model.lora_keys import LoraPart

Factors = Mapping[LoraPart, Tensor]


@dataclass(frozen=True)
class Method:
    """A way to store ΔW.

    Attributes:
        name: what it is called.
        forms: the sets of factors that are whole.
        multiply: ΔW `[out, in · kernel]` of such a set, without alpha / rank.
        ranks: factors whose first size is the rank; the first that is there counts.
    """

    name: str
    forms: tuple[frozenset[LoraPart], ...]
    multiply: Callable[[Factors], Tensor]
    ranks: tuple[LoraPart, ...]

    @property
    def parts(self) -> frozenset[LoraPart]:
        """Every factor that it may have."""
        return frozenset().union(*self.forms)

    def lacks(self, parts: Iterable[LoraPart]) -> list[LoraPart] | None:
        """What has to be added to `parts` to make them whole; None where they are more than one form."""
        given = frozenset(parts)
        missing = min((form - given for form in self.forms if given <= form), key=len, default=None)
        return None if missing is None else sorted(missing, key=lambda part: part.value)

    def shape(self, shapes: Mapping[LoraPart, Sequence[int]]) -> tuple[int, ...] | None:
        """Shape of ΔW for factors of these `shapes`; None where they cannot be multiplied."""
        try:
            return tuple(self.multiply({part: torch.empty(tuple(it), device="meta") for part, it in shapes.items()}).shape)
        except (RuntimeError, IndexError):  # the library's refusals of shapes
            return None

    def rank(self, shapes: Mapping[LoraPart, Sequence[int]]) -> int | None:
        """The rank of factors of these `shapes`; None where all are whole."""
        return next((shapes[part][0] for part in self.ranks if part in shapes), None)


def _low_rank(factors: Factors) -> Tensor:
    down, up = factors[LoraPart.DOWN].flatten(1), factors[LoraPart.UP].flatten(1)
    if LoraPart.MID in factors:
        return torch.einsum("or,rs...,si->oi...", up, factors[LoraPart.MID], down).flatten(1)
    return up @ down


def _hadamard(factors: Factors) -> Tensor:
    first = _factor(factors, LoraPart.HADA_W1_A, LoraPart.HADA_W1_B, LoraPart.HADA_T1)
    return first * _factor(factors, LoraPart.HADA_W2_A, LoraPart.HADA_W2_B, LoraPart.HADA_T2)


def _kronecker(factors: Factors) -> Tensor:
    whole = {1: LoraPart.LOKR_W1, 2: LoraPart.LOKR_W2}
    first = (
        factors[whole[1]] if whole[1] in factors else _factor(factors, LoraPart.LOKR_W1_A, LoraPart.LOKR_W1_B)
    ).flatten(1)
    second = (
        factors[whole[2]]
        if whole[2] in factors
        else _factor(factors, LoraPart.LOKR_W2_A, LoraPart.LOKR_W2_B, LoraPart.LOKR_T2)
    ).flatten(1)
    return torch.kron(first, second)


def _factor(factors: Factors, a: LoraPart, b: LoraPart, core: LoraPart | None = None) -> Tensor:
    """A·B, or with a core Tucker's product, flattened to a matrix."""
    if core in factors:
        return torch.einsum("ij...,jr,ip->pr...", factors[core], factors[b], factors[a]).flatten(1)
    return factors[a].flatten(1) @ factors[b].flatten(1)


_HADA = {LoraPart.HADA_W1_A, LoraPart.HADA_W1_B, LoraPart.HADA_W2_A, LoraPart.HADA_W2_B}
_LOKR_FIRST = ({LoraPart.LOKR_W1}, {LoraPart.LOKR_W1_A, LoraPart.LOKR_W1_B})
_LOKR_PAIR = {LoraPart.LOKR_W2_A, LoraPart.LOKR_W2_B}
_LOKR_SECOND = ({LoraPart.LOKR_W2}, _LOKR_PAIR, _LOKR_PAIR | {LoraPart.LOKR_T2})
METHODS = (
    Method(
        "a low-rank pair",
        (frozenset({LoraPart.DOWN, LoraPart.UP}), frozenset({LoraPart.DOWN, LoraPart.MID, LoraPart.UP})),
        _low_rank,
        (LoraPart.DOWN,),
    ),
    Method(
        "LoHa",
        (frozenset(_HADA), frozenset(_HADA | {LoraPart.HADA_T1, LoraPart.HADA_T2})),
        _hadamard,
        (LoraPart.HADA_W1_B,),
    ),
    Method(
        "LoKr",
        tuple(frozenset(first | second) for first, second in product(_LOKR_FIRST, _LOKR_SECOND)),
        _kronecker,
        (LoraPart.LOKR_W2_B, LoraPart.LOKR_W1_B),
    ),
)


def magnitude_axis(part: LoraPart, magnitude: Sequence[int], weight: Sequence[int]) -> int | None:
    """The axis of `weight` along which DoRA's `magnitude` lies, both given as shapes; None where it fits none.

    PEFT has one for each output channel, as a vector or, for a convolution, along the second axis. LyCORIS and ComfyUI
    put it where it belongs: output channels first, input channels second.
    """
    rows = (weight[0], *(1 for _ in weight[1:]))
    second = tuple(size if axis == 1 else 1 for axis, size in enumerate(magnitude))
    if tuple(magnitude) in ((weight[0],), rows):
        return 0
    if len(magnitude) != len(weight) or len(weight) < 2 or tuple(magnitude) != second:
        return None
    if part is LoraPart.MAGNITUDE:
        return 0 if magnitude[1] == weight[0] else None
    return 1 if magnitude[1] == weight[1] else None


def scale_to_magnitude(weight: Tensor, magnitude: Tensor, axis: int) -> None:
    """DoRA's m · W / ‖W‖ in place: `weight` is W + ΔW, fp32, `magnitude` m has a value for each channel of `axis`.

    A channel of zeros has no direction, and stays.
    """
    others = [it for it in range(weight.dim()) if it != axis]
    norm = torch.linalg.vector_norm(weight, dim=others, keepdim=True)
    weight *= magnitude.reshape(norm.shape) / norm.clamp_min(torch.finfo(norm.dtype).tiny)
