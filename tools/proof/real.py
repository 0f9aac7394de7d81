"""Every method on the trained models, by the commands that users type: figures of the linears, and videos."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from candidates import Candidate
from proof.verdicts import Verdict
from wan_tiny.measuring import FULL, Measured, measure_models
from wan_tiny.table_report import Line, lines_of

EASY, HARD, HARDER = "wan-tiny", "wan-tiny-hard", "wan-tiny-harder"
PROMPTS, STEPS = 16, 12
BEHIND_FP8_DB = 1.0
KEEP_SIZE = "400KB"  # added to 4.9 MB of codes, of the harder twin 5.2 MB

GROUPED = ("w6a8", "w4a8")
MIXED = {"int8+fp8": (), "w4a8+int8": ("--min-snr", "30", "--keep-size", "0")}
"""Schemes of which each input has one, and what `quantize` needs to know then."""
ROUND = ("--method", "rtn", "--no-bias-correction")
SOLVE = ("--method", "auto")
SMOOTHQUANT = ("--method", "smoothquant", "--alpha", "0.75")


def methods_of(scheme: str) -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """The rows of the table: arguments of `vq-algos smooth` and of `quantize` by method."""
    if scheme in GROUPED:
        # Smoothed as for INT8, which has the same tokens; the runtime rotates, whatever the method.
        smooth = ("--method", "auto", "--scheme", "int8", "--target", "comfyui")
        return {"RTN": (("--method", "none", "--target", "comfyui"), ROUND), "auto": (smooth, SOLVE)}
    native = ("--method", "auto", "--scheme", "int8", "--target", "native")
    if scheme in MIXED:
        return {"auto native": (native, (*SOLVE, *MIXED[scheme]))}
    awq, auto = ("--method", "awq", "--scheme", scheme), ("--method", "auto", "--scheme", scheme)
    both = {
        "RTN": (("--method", "none"), ROUND),
        "SmoothQuant": (SMOOTHQUANT, ROUND),
        "awq": (awq, ROUND),
        "noise": (("--method", "noise"), ROUND),
        "auto": (auto, SOLVE),
    }
    int8 = {
        "LLMC SmoothQuant": ((*SMOOTHQUANT, "--groups", "llmc"), ROUND),
        "LLMC AWQ": ((*awq, "--groups", "llmc"), ROUND),
        "ConvRot": (("--method", "none", "--target", "comfyui"), (*ROUND, "--rotate", "all")),
        "auto ComfyUI": ((*auto, "--target", "comfyui"), SOLVE),
        "auto native": (native, SOLVE),
        "auto native mixed": (native, (*SOLVE, "--keep-size", KEEP_SIZE)),
    }
    return both | int8 if scheme == "int8" else both


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


def name_of(method: str, scheme: str) -> str:
    """Such as `INT8 auto`."""
    return f"{scheme.upper()} {method}"


def measure_real(folder: Path, prompts: int = PROMPTS, steps: int = STEPS) -> Real:
    """All candidates on every model; intermediate files go to `folder`."""
    candidates = tuple(
        Candidate(name_of(method, scheme), scheme, *arguments, judged=True)
        for scheme in ("int8", "fp8", *GROUPED, *MIXED)
        for method, arguments in methods_of(scheme).items()
    )
    measured = measure_models((EASY, HARD, HARDER), candidates, folder, prompts, steps)
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
    """What each runtime reaches on the twins: PSNR, and shapes that move in the right direction."""
    by_name = {(line.model, line.candidate): line for line in lines}

    def psnr(model: str, method: str, scheme: str = "int8") -> float:
        mean = by_name[model, name_of(method, scheme)].psnr_db
        assert mean is not None
        return mean.value

    def least(demand: str, asked: float, model: str, measured: float) -> Verdict:
        return Verdict(demand, asked, measured, model, measured >= asked)

    ahead_of_fp8 = psnr(HARD, "auto") - psnr(HARD, "auto", "fp8")
    ahead_of_lightx2v = psnr(HARD, "auto ComfyUI") - psnr(HARD, "auto")
    without = psnr(HARDER, "auto")
    behind_int8 = psnr(EASY, "auto ComfyUI") - psnr(EASY, "auto", "w6a8")
    found = [
        least("INT8 auto above FP8 auto, PSNR, dB", -BEHIND_FP8_DB, HARD, ahead_of_fp8),
        least("INT8 auto ComfyUI above auto, PSNR, dB", 0.0, HARD, ahead_of_lightx2v),
        least("INT8 auto native, PSNR, dB", 53.0, HARD, psnr(HARD, "auto native")),
        Verdict("INT8 auto, without rotation, PSNR, dB, at most", 32.0, without, HARDER, without <= 32.0),
        least("INT8 auto ComfyUI, PSNR, dB", 44.0, HARDER, psnr(HARDER, "auto ComfyUI")),
        least("INT8 auto native, PSNR, dB", 44.0, HARDER, psnr(HARDER, "auto native")),
        least("INT8 auto native mixed, PSNR, dB", 46.0, HARDER, psnr(HARDER, "auto native mixed")),
        least("INT8+FP8 auto native, PSNR, dB", 46.0, HARDER, psnr(HARDER, "auto native", "int8+fp8")),
        least("W4A8 auto, PSNR, dB", 36.0, EASY, psnr(EASY, "auto", "w4a8")),
        Verdict("W6A8 auto below INT8 auto ComfyUI, PSNR, dB, at most", 1.5, behind_int8, EASY, behind_int8 <= 1.5),
    ]
    for model, method, scheme in (
        (HARD, "auto", "int8"),
        (HARD, "auto ComfyUI", "int8"),
        (HARDER, "auto ComfyUI", "int8"),
        (HARDER, "auto native", "int8"),
        (HARDER, "auto native", "int8+fp8"),
        (EASY, "auto", "w4a8"),
    ):
        direction, reference = (by_name[model, name].shares["direction"] for name in (name_of(method, scheme), FULL))
        demand = (
            f"{name_of(method, scheme)}: share of right directions, at least the lower end of full precision's interval"
        )
        found.append(least(demand, reference.low, model, direction.value))
    return found


def _median(values: Sequence[float | None]) -> float | None:
    """None where a linear is exact."""
    known = [value for value in values if value is not None]
    return median(known) if len(known) == len(values) else None
