"""How to quantize a model: what `vq-algos quantize` asks for."""

from dataclasses import dataclass

from vq_algos.rounding.rounders import rounder_named
from vq_core.errors import VqError
from vq_core.numerics.rotation import NONE
from vq_core.numerics.scheme import QuantScheme, Rounding, schemes_named
from vq_core.recipes.ignored import IgnoreRule, parse_ignored
from vq_core.targets import Target

ROTATE = ("none", "auto", "all")


@dataclass(frozen=True)
class QuantizeSettings:
    """How to quantize.

    Attributes:
        scheme: a scheme's name, or those of several of which each linear gets one, see
            `vq_algos.rounding.scheme_choice`.
        method: a rounder's name.
        rounding: a rounding's name.
        rotate: which inputs are rotated, if the target can do it: `none`, `all`, or with `auto` those of which all
            linears have a smaller error on held-out tokens then.
        bias_correction: whether biases may be corrected, which needs sampled tokens.
        center: whether an input's mean may be subtracted where that lowers the error, which needs them too.
        keep: rules for linears that stay in full precision, see `vq_core.recipes.ignored`.
        keep_size: how many bytes others that stay so may add; None for none where `min_snr` does not ask for some, else
            for any number.
        min_snr: output SNR on held-out tokens in dB below which linears get more bits where `scheme` has some, else
            stay so; None for any.
    """

    scheme: str
    method: str = "rtn"
    rounding: str = Rounding.NEAREST_EVEN.value
    rotate: str = "none"
    bias_correction: bool = True
    center: bool = False
    keep: tuple[str, ...] = ()
    keep_size: int | None = None
    min_snr: float | None = None

    @property
    def keeps(self) -> bool:
        """Whether linears may stay in full precision."""
        return bool(self.keep) or self.keeps_the_worst

    @property
    def rules(self) -> list[IgnoreRule]:
        """Those of `keep`.

        Raises:
            VqError: one is no rule.
        """
        return [parse_ignored(rule, "--keep") for rule in self.keep]

    @property
    def keeps_the_worst(self) -> bool:
        """Whether some of them are chosen by their error."""
        return self.keep_size is not None or self.min_snr is not None

    @property
    def schemes(self) -> tuple[QuantScheme, ...]:
        """Those of `scheme`."""
        return schemes_named(self.scheme)

    def __post_init__(self) -> None:
        schemes = self.schemes
        rounder_named(self.method)
        known = [rounding.value for rounding in Rounding]
        if self.rounding not in known:
            raise VqError(f"`{self.rounding}` is not a rounding: choose one of {', '.join(known)}.")
        if self.rotate not in ROTATE:
            raise VqError(f"`{self.rotate}` is not known to --rotate: choose one of {', '.join(ROTATE)}.")
        if all(one.grouped for one in schemes) and self.rotate != "all":
            raise VqError(f"{self.scheme} always rotates what a linear reads: leave --rotate out.")
        if len({one.bits for one in schemes}) > 1 and self.min_snr is None:
            raise VqError(
                f"`--scheme {self.scheme}` needs --min-snr, the output SNR below which a linear gets more bits."
            )


def default_rotate(method: str, target: Target, scheme: str) -> str:
    """What is rotated where nothing is said: whatever gains by it, if `method` tries all there is."""
    if all(one.grouped for one in schemes_named(scheme)):
        return "all"
    return "auto" if method == "auto" and target.rotation > NONE else "none"
