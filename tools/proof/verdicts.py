"""The requirements on the algorithms, and whether they are met; the worst case over layers and seeds decides."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain

from proof.methods import AUTO, REFERENCE, ROTATED, RTN
from proof.pair import RESCALED, RESCALED_AND_ROTATED
from proof.suite import PAIR, Figure


@dataclass(frozen=True)
class Verdict:
    """One requirement.

    Attributes:
        demand: the requirement in words.
        asked, measured: the limit, and the figure of the worst case.
        where: layer, scheme and seed of the worst case.
        met: whether the limit is kept.
    """

    demand: str
    asked: float
    measured: float
    where: str
    met: bool

    @property
    def text(self) -> str:
        return f"{self.demand}: {self.measured:.4g} of {self.asked:.4g} ({self.where})"


def verdicts(figures: Sequence[Figure]) -> list[Verdict]:
    """All requirements on the synthetic layers."""
    by_key = {(f.seed, f.layer, f.scheme, f.method): f for f in figures}

    def other(figure: Figure, method: str) -> Figure:
        return by_key[figure.seed, figure.layer, figure.scheme, method]

    def above(method: str) -> Callable[[Figure], float]:
        return lambda f: f.test_db - other(f, method).test_db

    auto = [f for f in figures if f.method == AUTO and f.layer != PAIR]
    foldable = [f for f in auto if f.foldable and f.scheme == "int8"]
    fp8 = [f for f in auto if f.scheme == "fp8"]
    foldable_fp8 = [f for f in fp8 if f.foldable]
    rotated = [f for f in figures if f.method == ROTATED and f.layer != PAIR]
    rotated_int8 = [f for f in rotated if f.scheme == "int8"]
    rescaled = [f for f in figures if f.method in (RESCALED, RESCALED_AND_ROTATED)]
    everything = [*auto, *rotated, *rescaled]
    grouped = {scheme: [f for f in auto if f.scheme == scheme] for scheme in ("w6a8", "w4a8")}
    gains = [f for f in rescaled if f.method == RESCALED and f.scheme == "int8"]
    fold = "INT8, layers with a fold: auto"
    pair = "INT8, feed-forward: auto with the rescale above"
    return [
        _least(f"{fold} above RTN, dB", 8.0, foldable, above(RTN)),
        _least(f"{fold} above SmoothQuant (α .5), dB", 1.2, foldable, above(REFERENCE)),
        _least(f"{fold}, dB", 38.5, foldable, lambda f: f.test_db),
        _least(f"{fold} with rotation, dB", 42.0, [f for f in rotated_int8 if f.foldable], lambda f: f.test_db),
        _least(
            "INT8, layers without a fold: auto with rotation, dB",
            36.0,
            [f for f in rotated_int8 if not f.foldable],
            lambda f: f.test_db,
        ),
        _least("FP8, every layer: auto above RTN, dB", 1.0, fp8, above(RTN)),
        _least("FP8, layers with a fold: auto above RTN, dB", 1.7, foldable_fp8, above(RTN)),
        _least("FP8, layers with a fold: auto, dB", 30.3, foldable_fp8, lambda f: f.test_db),
        _least("W4A8, every layer: auto above its RTN, dB", 2.0, grouped["w4a8"], above(RTN)),
        _least("W6A8, every layer: auto above its RTN, dB", 2.0, grouped["w6a8"], above(RTN)),
        _least(f"{pair} RTN, dB", 6.0, gains, above(RTN)),
        _least(f"{pair} auto without, dB", 0.0, gains, above(AUTO)),
        _most(
            "all schemes, every linear: auto's error over RTN's on held-out tokens",
            1.0,
            everything,
            lambda f: _worst_ratio([f.held_out], [other(f, RTN).held_out]),
        ),
        _most(
            "the same in any bucket of sigma",
            1.02,
            everything,
            lambda f: _worst_ratio(f.held_out_buckets, other(f, RTN).held_out_buckets),
        ),
        _most(
            "layers with a fold, and all in FP8: what drift costs auto, dB",
            0.5,
            [*foldable, *fp8],
            lambda f: f.test_db - f.drifted_db,
        ),
    ]


def _least(demand: str, asked: float, figures: Iterable[Figure], of: Callable[[Figure], float]) -> Verdict:
    measured, where = min((of(figure), _where(figure)) for figure in figures)
    return Verdict(demand, asked, measured, where, measured >= asked)


def _most(demand: str, asked: float, figures: Iterable[Figure], of: Callable[[Figure], float]) -> Verdict:
    measured, where = max((of(figure), _where(figure)) for figure in figures)
    return Verdict(demand, asked, measured, where, measured <= asked)


def _where(figure: Figure) -> str:
    return f"{figure.layer}, {figure.scheme.upper()}, seed {figure.seed}"


def _worst_ratio(errors: Iterable[Sequence[float]], others: Iterable[Sequence[float]]) -> float:
    pairs = zip(chain(*errors), chain(*others), strict=True)
    return max(error / other for error, other in pairs)
