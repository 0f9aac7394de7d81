"""Every method on the trained models, by the commands that users type: figures of the linears, and videos."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from candidates import Candidate
from proof.verdicts import Verdict
from wan_tiny.measuring import FULL, Measured, measure_models
from wan_tiny.table_report import Line, lines_of

EASY, HARD = "wan-tiny", "wan-tiny-hard"
PROMPTS, STEPS = 16, 12
BEHIND_FP8_DB = 1.0

SMOOTH = {
    "RTN": ("--method", "none"),
    "SmoothQuant": ("--method", "smoothquant", "--alpha", "0.75"),
    "awq": ("--method", "awq"),
    "noise": ("--method", "noise"),
    "auto": ("--method", "auto"),
}
PLAIN = ("--method", "rtn", "--no-bias-correction")


@dataclass(frozen=True)
class Place:
    """Output SNR in dB on held-out tokens, median over the blocks, of one linear's place and every candidate."""

    model: str
    place: str
    snr_db: dict[str, float | None]


@dataclass(frozen=True)
class Real:
    """The figures of the trained models."""

    lines: list[Line]
    places: list[Place]


def candidate(method: str, scheme: str) -> Candidate:
    """One row of the table; `awq` and `auto` smooth for the scheme."""
    smooth = (*SMOOTH[method], *(("--scheme", scheme) if method in ("awq", "auto") else ()))
    quantize = ("--method", "auto") if method == "auto" else PLAIN
    return Candidate(name_of(method, scheme), scheme, smooth, quantize, judged=True)


def name_of(method: str, scheme: str) -> str:
    """Such as `INT8 auto`."""
    return f"{scheme.upper()} {method}"


def measure_real(folder: Path, prompts: int = PROMPTS, steps: int = STEPS) -> Real:
    """All candidates on both models; intermediate files go to `folder`."""
    candidates = tuple(candidate(method, scheme) for scheme in ("int8", "fp8") for method in SMOOTH)
    measured = measure_models((EASY, HARD), candidates, folder, prompts, steps)
    lines = [line for model, one in measured.items() for line in lines_of(model, one)]
    return Real(lines, [place for model, one in measured.items() for place in places_of(model, one)])


def places_of(model: str, measured: Measured) -> list[Place]:
    """The figures of each linear, taken together over the blocks."""
    found: dict[str, dict[str, list[float | None]]] = {}
    for name, components in measured.decided.items():
        for decisions in components.values():
            for linear, decision in decisions.items():
                place = re.sub(r"blocks\.\d+\.", "", linear)
                found.setdefault(place, {}).setdefault(name, []).append(decision["output_snr_db"])
    return [
        Place(model, place, {name: _median(values) for name, values in by_name.items()})
        for place, by_name in found.items()
    ]


def real_verdicts(lines: Sequence[Line]) -> list[Verdict]:
    """On the hard twin, INT8 is at most 1 dB below FP8, and its shapes move in the right direction."""
    hard: Mapping[str, Line] = {line.candidate: line for line in lines if line.model == HARD}
    int8, fp8, full = hard[name_of("auto", "int8")], hard[name_of("auto", "fp8")], hard[FULL]
    assert int8.psnr_db is not None
    assert fp8.psnr_db is not None
    ahead = int8.psnr_db.value - fp8.psnr_db.value
    direction, reference = int8.shares["direction"], full.shares["direction"]
    return [
        Verdict("INT8 auto above FP8 auto, PSNR, dB", -BEHIND_FP8_DB, ahead, HARD, ahead >= -BEHIND_FP8_DB),
        Verdict(
            "INT8 auto: share of right directions, at least the lower end of full precision's interval",
            reference.low,
            direction.value,
            HARD,
            direction.value >= reference.low,
        ),
    ]


def _median(values: Sequence[float | None]) -> float | None:
    """None where a linear is exact."""
    known = [value for value in values if value is not None]
    return median(known) if len(known) == len(values) else None
