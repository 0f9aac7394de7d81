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
from functools import cached_property
from itertools import product
from math import prod

import torch
from torch import Tensor

from vq_core.model.lora_keys import LoraPart

Factors = Mapping[LoraPart, Tensor]
Shapes = Mapping[LoraPart, tuple[int, ...]]


@dataclass(frozen=True)
class Method:
    """A way to store ΔW.

    Attributes:
        name: what it is called.
        forms: the sets of factors that are whole.
        multiply: ΔW `[out, in · kernel]` of such a set, without alpha / rank.
        shape: what shape that has, from the shapes of the factors; None where they cannot be multiplied.
        ranks: factors whose first size is the rank; the first that is there counts.
    """

    name: str
    forms: tuple[frozenset[LoraPart], ...]
    multiply: Callable[[Factors], Tensor]
    shape: Callable[[Shapes], tuple[int, int] | None]
    ranks: tuple[LoraPart, ...]

    @cached_property
    def parts(self) -> frozenset[LoraPart]:
        """Every factor that it may have."""
        return frozenset().union(*self.forms)

    def lacks(self, parts: Iterable[LoraPart]) -> list[LoraPart] | None:
        """What has to be added to `parts` to make them whole; None where they are more than one form."""
        given = frozenset(parts)
        missing = min((form - given for form in self.forms if given <= form), key=len, default=None)
        return None if missing is None else sorted(missing, key=lambda part: part.value)

    def rank(self, shapes: Shapes) -> int | None:
        """The rank of factors of these `shapes`; None where all are whole."""
        return next((shapes[part][0] for part in self.ranks if part in shapes), None)


def _low_rank(factors: Factors) -> Tensor:
    down, up = factors[LoraPart.DOWN].flatten(1), factors[LoraPart.UP].flatten(1)
    if LoraPart.MID in factors:
        return torch.einsum("or,rs...,si->oi...", up, factors[LoraPart.MID], down).flatten(1)
    return up @ down


def _low_rank_shape(shapes: Shapes) -> tuple[int, int] | None:
    down, up, mid = (shapes.get(part, ()) for part in (LoraPart.DOWN, LoraPart.UP, LoraPart.MID))
    (rank, columns), (rows, inner) = _matrix(down), _matrix(up)
    if LoraPart.MID in shapes and (len(mid) < 2 or mid[:2] != (inner, rank)):
        return None
    return (rows, columns * prod(mid[2:])) if LoraPart.MID in shapes or inner == rank else None


def _hadamard(factors: Factors) -> Tensor:
    first = _factor(factors, LoraPart.HADA_W1_A, LoraPart.HADA_W1_B, LoraPart.HADA_T1)
    return first * _factor(factors, LoraPart.HADA_W2_A, LoraPart.HADA_W2_B, LoraPart.HADA_T2)


def _hadamard_shape(shapes: Shapes) -> tuple[int, int] | None:
    first = _factor_shape(shapes, LoraPart.HADA_W1_A, LoraPart.HADA_W1_B, LoraPart.HADA_T1)
    return first if first == _factor_shape(shapes, LoraPart.HADA_W2_A, LoraPart.HADA_W2_B, LoraPart.HADA_T2) else None


def _kronecker(factors: Factors) -> Tensor:
    first, second = (
        factors[whole].flatten(1) if whole in factors else _factor(factors, *pieces) for whole, *pieces in _LOKR
    )
    return torch.kron(first, second)


def _kronecker_shape(shapes: Shapes) -> tuple[int, int] | None:
    first, second = (
        _matrix(shapes[whole]) if whole in shapes else _factor_shape(shapes, *pieces) for whole, *pieces in _LOKR
    )
    return (first[0] * second[0], first[1] * second[1]) if first and second else None


def _factor(factors: Factors, a: LoraPart, b: LoraPart, core: LoraPart | None = None) -> Tensor:
    """A·B, or with a core Tucker's product, flattened to a matrix."""
    if core is not None and core in factors:
        return torch.einsum("ij...,jr,ip->pr...", factors[core], factors[b], factors[a]).contiguous().flatten(1)
    return factors[a].flatten(1) @ factors[b].flatten(1)


def _factor_shape(shapes: Shapes, a: LoraPart, b: LoraPart, core: LoraPart | None = None) -> tuple[int, int] | None:
    left, right = shapes[a], shapes[b]
    if core is not None and core in shapes:
        middle = shapes[core]
        fits = len(left) == len(right) == 2 and middle[:2] == (left[0], right[0])
        return (left[1], right[1] * prod(middle[2:])) if fits else None
    (rows, inner), (other, columns) = _matrix(left), _matrix(right)
    return (rows, columns) if inner == other else None


def _matrix(shape: tuple[int, ...]) -> tuple[int, int]:
    """Rows and columns of a tensor of this `shape`, flattened to a matrix; none of a vector."""
    return (shape[0], prod(shape[1:])) if len(shape) > 1 else (0, 0)


_HADA = {LoraPart.HADA_W1_A, LoraPart.HADA_W1_B, LoraPart.HADA_W2_A, LoraPart.HADA_W2_B}
_LOKR = (
    (LoraPart.LOKR_W1, LoraPart.LOKR_W1_A, LoraPart.LOKR_W1_B),
    (LoraPart.LOKR_W2, LoraPart.LOKR_W2_A, LoraPart.LOKR_W2_B, LoraPart.LOKR_T2),
)
_LOKR_FIRST = ({_LOKR[0][0]}, {*_LOKR[0][1:]})
_LOKR_SECOND = ({_LOKR[1][0]}, {*_LOKR[1][1:3]}, {*_LOKR[1][1:]})
METHODS = (
    Method(
        "a low-rank pair",
        (frozenset({LoraPart.DOWN, LoraPart.UP}), frozenset({LoraPart.DOWN, LoraPart.MID, LoraPart.UP})),
        _low_rank,
        _low_rank_shape,
        (LoraPart.DOWN,),
    ),
    Method(
        "LoHa",
        (frozenset(_HADA), frozenset(_HADA | {LoraPart.HADA_T1, LoraPart.HADA_T2})),
        _hadamard,
        _hadamard_shape,
        (LoraPart.HADA_W1_B,),
    ),
    Method(
        "LoKr",
        tuple(frozenset(first | second) for first, second in product(_LOKR_FIRST, _LOKR_SECOND)),
        _kronecker,
        _kronecker_shape,
        (LoraPart.LOKR_W2_B, LoraPart.LOKR_W1_B),
    ),
)


def magnitude_axis(part: LoraPart, magnitude: Sequence[int], weight: Sequence[int]) -> int | None:
    """The axis of `weight` along which DoRA's `magnitude` lies, both given as shapes; None where it fits none.

    PEFT has one for each output channel, as a vector or, for a convolution, along the second axis. LyCORIS and ComfyUI
    put it where it belongs: output channels first, input channels second.
    """
    if len(weight) < 2:
        return None
    rows = (weight[0], *(1 for _ in weight[1:]))
    second = tuple(size if axis == 1 else 1 for axis, size in enumerate(magnitude))
    if tuple(magnitude) in ((weight[0],), rows):
        return 0
    if len(magnitude) != len(weight) or tuple(magnitude) != second:
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
