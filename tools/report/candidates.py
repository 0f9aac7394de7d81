"""The candidates of the report, and the commands that make each of them and its videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from road import Road


@dataclass(frozen=True)
class Candidate:
    """How a model is quantized.

    Attributes:
        name: in the report.
        scheme: int8 or fp8.
        smoother: of `vq-algos smooth`.
        rounder: of `vq-algos quantize`.
    """

    name: str
    scheme: str
    smoother: str
    rounder: str = "rtn"

    @property
    def stem(self) -> str:
        """Of its folders."""
        return self.name.lower().replace(" ", "-")


CANDIDATES = (
    Candidate("INT8 RTN", "int8", "none"),
    Candidate("INT8 SmoothQuant", "int8", "smoothquant"),
    Candidate("INT8 auto", "int8", "auto", "auto"),
    Candidate("FP8", "fp8", "auto", "auto"),
)


@dataclass(frozen=True)
class Made:
    """A candidate that was made: its artifacts and its videos."""

    candidate: Candidate
    weights: Path
    qparams: Path
    videos: Path


def make(road: Road, candidate: Candidate, folder: Path, sample: Sequence[object], model: str) -> Made:
    """Smooth and quantize into `folder`, which holds `stats`, and make videos as `sample` says."""
    stats = ("--stats", folder / "stats")
    weights, qparams = folder / f"smoothed-{candidate.stem}", folder / f"qparams-{candidate.stem}"
    videos = folder / f"videos-{candidate.stem}"
    how = ("--method", candidate.smoother, "--scheme", candidate.scheme)
    road.run("vq-algos smooth", "--model", model, *stats, *how, "-o", weights)
    how = ("--method", candidate.rounder, "--scheme", candidate.scheme)
    road.run("vq-algos quantize", "--weights", weights, *stats, *how, "-o", qparams)
    artifacts = ("--weights", weights, "--qparams", qparams)
    road.run("vq-eval fake-quant", *sample, *artifacts, "--variants", "fake-quant", "-o", videos)
    return Made(candidate, weights, qparams, videos / "fake-quant")
