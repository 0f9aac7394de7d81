"""The basis in which the linears that read one input are rounded: that of the model, or a rotated one; centered or not.

A rotation spreads a token's outliers over many channels, which helps a uniform grid and harms a floating one. The
linears are rounded in both bases, and the rotated one is taken if no linear has a larger error on held-out tokens then,
and none a larger one in a bucket of sigma than rounding to nearest may have.

Centering takes away what all tokens have in common, and costs nothing. In either basis it is taken if, rounded to
nearest, no linear has a larger error on held-out tokens then, in none of the buckets. Of an input that other blocks
read too it is decided before, for every basis that a block may choose.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from vq_algos.layer.inputs import LinearInputs
from vq_algos.layer.output_error import Energy, HeldOutError, spares_buckets
from vq_algos.rounding.rounders import Rounded, Rounder, rtn
from vq_core.numerics.quantize import dequantize
from vq_core.numerics.rotation import NONE, rotate
from vq_core.numerics.scheme import QuantScheme, Rounding


@dataclass(frozen=True)
class Basis:
    """The linears that read one input, and sampled tokens of it, all rotated alike.

    Attributes:
        rotation: how many channels are rotated together; 1 for none.
        weights: fp32 `[out_i, in]`.
        inputs: None where no tokens were sampled.
        mean: fp32 `[in]`, subtracted from the tokens before they were rotated; None for none.
    """

    rotation: int
    weights: Sequence[Tensor]
    inputs: LinearInputs | None
    mean: Tensor | None = None

    @property
    def decision(self) -> dict[str, int | bool]:
        """What the decision record says of it."""
        rotation: dict[str, int | bool] = {} if self.rotation == NONE else {"rotation": self.rotation}
        return rotation if self.mean is None else rotation | {"centered": True}

    def errors(self, rounded: Sequence[Rounded]) -> list[Energy]:
        """The held-out error of each linear as it was `rounded` in this basis, which has inputs."""
        assert self.inputs is not None
        return [
            HeldOutError(weight, self.inputs.held_out).error(dequantize(one.quantized))
            for weight, one in zip(self.weights, rounded, strict=True)
        ]


def rotated_basis(
    weights: Sequence[Tensor], inputs: LinearInputs | None, rotation: int, mean: Tensor | None = None
) -> Basis:
    """`weights` fp32 `[out_i, in]` of the model, rotated, and `inputs` that are centered by `mean` and rotated."""
    return Basis(rotation, [rotate(weight, rotation) for weight in weights], inputs, mean)


def rounded(
    how: str,
    basis_of: Callable[[int, Tensor | None], Basis],
    rotation: int,
    mean: Tensor | None,
    rounder: Rounder,
    scheme: QuantScheme,
    rounding: Rounding,
    *,
    decided: bool = False,
) -> tuple[Basis, list[Rounded], list[Energy]]:
    """Round the linears that read one input.

    Args:
        how: `none` in the model's basis, `all` in the rotated one, or `auto` in the better one, which needs inputs.
        basis_of: the basis with so many channels rotated together, centered by such a mean.
        rotation: how many that are, if they are; 1 if they cannot be rotated.
        mean: fp32 `[in]`, of the input, which needs inputs; None if it cannot be centered.
        rounder: rounds in either basis.
        scheme: which codes a weight can have.
        rounding: where a value between two codes goes.
        decided: whether `mean` is subtracted in any case.

    Returns:
        The basis, what came out in it, and the errors of rounding to nearest in the model's; none without inputs. A
        scheme with groups knows the rotated basis only, which is the model's then.
    """
    own = rotation if scheme.grouped else NONE
    basis = basis_of(own, None)
    codes = rtn.quantize(basis.weights, None, scheme, rounding) if basis.inputs else []
    nearest = basis.errors(codes) if basis.inputs else []
    if decided:
        basis = basis_of(own, mean)
    elif mean is not None:
        basis = _better_centered(basis, basis_of(own, mean), codes, nearest)
    if how == "none" or rotation == own:
        return basis, rounder.quantize(basis.weights, basis.inputs, scheme, rounding), nearest
    rotated = basis_of(rotation, mean if decided else None)
    if mean is not None and not decided:
        codes = rtn.quantize(rotated.weights, None, scheme, rounding)
        rotated = _better_centered(rotated, basis_of(rotation, mean), codes, rotated.errors(codes))
    turned = rounder.quantize(rotated.weights, rotated.inputs, scheme, rounding)
    if how == "auto":
        plain = rounder.quantize(basis.weights, basis.inputs, scheme, rounding)
        if not is_better(rotated.errors(turned), basis.errors(plain), nearest):
            return basis, plain, nearest
    return rotated, turned, nearest


def is_better_centered(
    how: str,
    basis_of: Callable[[int, Tensor | None], Basis],
    rotation: int,
    mean: Tensor,
    scheme: QuantScheme,
    rounding: Rounding,
) -> bool:
    """Is centering better in every basis that `rounded` may choose, which takes the same arguments?"""
    own = rotation if scheme.grouped else NONE
    for group in {"none": {own}, "all": {rotation}, "auto": {own, rotation}}[how]:
        basis, centered = basis_of(group, None), basis_of(group, mean)
        codes = rtn.quantize(basis.weights, None, scheme, rounding)
        if _better_centered(basis, centered, codes, basis.errors(codes)) is basis:
            return False
    return True


def _better_centered(basis: Basis, centered: Basis, nearest: Sequence[Rounded], errors: Sequence[Energy]) -> Basis:
    """`centered` where that is better than `basis`, in which the weights rounded to `nearest` have these `errors`."""
    pairs = list(zip(centered.errors(nearest), errors, strict=True))
    spared = all(new <= old for one, other in pairs for new, old in zip(one.buckets, other.buckets, strict=True))
    return centered if spared and all(one.total < other.total for one, other in pairs) else basis


def is_better(errors: Sequence[Energy], others: Sequence[Energy], rtn: Sequence[Energy]) -> bool:
    """Is no linear worse with `errors` than with `others`, some better, and none too bad in a bucket beside `rtn`?"""
    totals = [(one.total, other.total) for one, other in zip(errors, others, strict=True)]
    return (
        all(one <= other for one, other in totals)
        and any(one < other for one, other in totals)
        and all(spares_buckets(error, nearest) for error, nearest in zip(errors, rtn, strict=True))
    )
