"""Quantized models beside each other: how each is made by the commands, and the videos that it makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from road import Road

CALIBRATION_PROMPTS, CALIBRATION_SEED = 8, 1


@dataclass(frozen=True)
class Candidate:
    """How a model is quantized.

    Attributes:
        name: in the tables.
        scheme: as `vq-algos quantize` takes it.
        smooth: arguments of `vq-algos smooth`, beside model, statistics and output.
        quantize: of `vq-algos quantize`, beside weights, scheme and output.
        judged: does `quantize` get the statistics, for figures on held-out tokens and methods that solve on tokens?
    """

    name: str
    scheme: str
    smooth: tuple[str, ...]
    quantize: tuple[str, ...] = ()
    judged: bool = False

    @property
    def stem(self) -> str:
        """Of its folders."""
        return self.name.lower().replace(" ", "-")


@dataclass(frozen=True)
class Made:
    """A candidate's artifacts and its videos."""

    candidate: Candidate
    weights: Path
    qparams: Path
    videos: Path


class Candidates:
    """Candidates of `model`, made in `folder`, which holds its `stats`; those that are smoothed alike share weights."""

    def __init__(self, road: Road, model: str, folder: Path) -> None:
        self._road, self._model, self._folder = road, model, folder
        self._smoothed: dict[tuple[str, ...], Path] = {}

    def make(self, candidate: Candidate, prompts: Path, steps: int) -> Made:
        """Smooth, quantize, and render `prompts` with simulated quantization."""
        stats = ("--stats", self._folder / "stats")
        if candidate.smooth not in self._smoothed:
            output = self._smoothed[candidate.smooth] = self._folder / f"smoothed-{len(self._smoothed)}"
            self._road.run("vq-algos smooth", "--model", self._model, *stats, *candidate.smooth, "-o", output)
        weights, qparams = self._smoothed[candidate.smooth], self._folder / f"qparams-{candidate.stem}"
        how = ("--scheme", candidate.scheme, *candidate.quantize, *(stats if candidate.judged else ()))
        self._road.run("vq-algos quantize", "--weights", weights, *how, "-o", qparams)
        videos = self._folder / f"videos-{candidate.stem}"
        artifacts = ("--weights", weights, "--qparams", qparams)
        self.render("fake-quant", prompts, steps, videos, *artifacts)
        return Made(candidate, weights, qparams, videos / "fake-quant")

    def render(self, variants: str, prompts: Path, steps: int, output: Path, *artifacts: object) -> None:
        """Render `prompts` in the ways that `variants` names."""
        sample = ("--model", self._model, "--prompts", prompts, "--steps", steps, *artifacts)
        self._road.run("vq-eval fake-quant", *sample, "--variants", variants, "-o", output)


def write_prompts(road: Road, folder: Path, count: int) -> None:
    """Write `count` held-out prompts to `folder/prompts`, and others for calibration to `folder/calibration`."""
    road.run("vq-wan-tiny prompts", "-o", folder / "prompts", "--count", count, "--held-out")
    others = ("--count", CALIBRATION_PROMPTS, "--seed", CALIBRATION_SEED, "--trained")
    road.run("vq-wan-tiny prompts", "-o", folder / "calibration", *others)


def named(videos: Mapping[str, Path]) -> list[str]:
    """The arguments of `vq-eval compare` for folders of videos by name."""
    return [word for name, folder in videos.items() for word in ("--candidate", f"{name}={folder}")]
