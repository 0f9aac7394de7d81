"""The whole road on wan-tiny-hard: every command of every stage, INT8 and FP8, with times and sizes.

Run by `make demo`. The model draws coloured shapes that move as the caption says, and has the outlier channels of a
large one: rounding alone to INT8 breaks it, smoothing saves it. The table and the picture show both.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from candidates import named
from road import Road
from strip import Row, draw_strip, psnr_of, row_text
from vq_core.media.video import read_video
from vq_core.model.source import resolve_model

PROMPTS, CALIBRATION_PROMPTS = 2, 2
SEED = 42
SHOWN = 0  # the prompt of the picture and of the video to look at

console = Console()


@dataclass(frozen=True)
class Outcome:
    """One row: its videos, its JSON from `vq-eval compare` (None for the reference) and that of `vq-wan-tiny grade`."""

    name: str
    videos: Path
    compared: dict[str, Any] | None
    graded: dict[str, Any]

    @property
    def psnr_db(self) -> float | None:
        """Of the prompt in the picture; None for the reference."""
        return None if self.compared is None else psnr_of(self.compared, SHOWN)


class Demo:
    """Takes one model through every stage, in one folder."""

    def __init__(self, model: str, folder: Path) -> None:
        self.road = Road(console)
        self.model, self.folder = model, folder
        self.prompts = folder / "prompts"
        self.samples: list[dict[str, str]] = []

    def travel(self) -> list[Outcome]:
        """From prompts to videos, with INT8 rounded only, and INT8 and FP8 smoothed."""
        self._calibrate()
        simulated = self._quantize("int8")
        self._quantize("fp8")
        rounded = self.folder / "checkpoint-int8-rtn"
        self.road.run("vq-export lightx2v", "--model", self.model, "--scheme", "int8", "-o", rounded)
        candidates = {
            "INT8 rounded only": self._infer("int8-rtn"),
            "INT8 smoothed": self._infer("int8"),
            "INT8 smoothed, simulated": simulated / "fake-quant",
            "FP8 smoothed": self._infer("fp8"),
        }
        compared = self._compare(simulated / "full", candidates)
        outcomes = [Outcome("full precision", simulated / "full", None, self._grade(simulated / "full"))]
        for row, (name, videos) in zip(compared["rows"], candidates.items(), strict=True):
            outcomes.append(Outcome(name, videos, row, self._grade(videos)))
        return outcomes

    def _calibrate(self) -> None:
        calibration, stats = self.folder / "calibration", self.folder / "stats"
        self.road.run("vq-wan-tiny prompts", "-o", self.prompts, "--count", PROMPTS, "--held-out")
        others = ("--count", CALIBRATION_PROMPTS, "--trained")
        self.road.run("vq-wan-tiny prompts", "-o", calibration, *others)
        self.samples = json.loads((self.prompts / "samples.json").read_text(encoding="utf-8"))
        model = ("--model", self.model)
        self.road.run("vq-calib collect", *model, "--prompts", calibration, "-o", stats)
        self.road.run("vq-algos smooth", *model, "--stats", stats, "-o", self.folder / "smoothed")

    def _quantize(self, scheme: str) -> Path:
        """Make and verify a checkpoint; for INT8 also videos of full precision and the simulation, in this folder."""
        weights, qparams = self.folder / "smoothed", self.folder / f"qparams-{scheme}"
        checkpoint, videos = self.folder / f"checkpoint-{scheme}", self.folder / f"videos-{scheme}"
        artifacts = ("--weights", weights, "--qparams", qparams)
        self.road.run("vq-algos quantize", "--weights", weights, "--scheme", scheme, "-o", qparams)
        self.road.run("vq-export lightx2v", *artifacts, "-o", checkpoint)
        self.road.run("vq-export verify", checkpoint, "--model", self.model)
        if scheme == "int8":
            inputs = ("--model", self.model, *artifacts, "--prompts", self.prompts)
            self.road.run("vq-eval fake-quant", *inputs, "-o", videos, "--seed", SEED)
        return videos

    def _infer(self, name: str) -> Path:
        """One lossless video per prompt from a checkpoint, to measure, and one `.mp4` of INT8 to look at."""
        videos = self.folder / f"infer-{name}"
        videos.mkdir()
        outputs = [(index, f"{index:03d}.mkv") for index in range(PROMPTS)]
        if name == "int8":
            outputs.append((SHOWN, f"{SHOWN:03d}.mp4"))
        for index, file in outputs:
            sample = self.samples[index]
            self.road.run(
                "vq-infer i2v", "--model", self.model, "--checkpoint", self.folder / f"checkpoint-{name}",
                "--image", self.prompts / sample["image"], "--prompt", sample["prompt"],
                "-o", videos / file, "--seed", SEED + index,
            )  # fmt: skip
        return videos

    def _compare(self, reference: Path, candidates: dict[str, Path]) -> dict[str, Any]:
        sides = ("--reference", reference, *named(candidates), "--prompts", self.prompts)
        return self.road.run("vq-eval compare", *sides, "-o", self.folder / "report")

    def _grade(self, videos: Path) -> dict[str, Any]:
        return self.road.run("vq-wan-tiny grade", videos, "--prompts", self.prompts)


def folder_bytes(folder: Path) -> int:
    """Size of all safetensors files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def two_columns(title: str, unit: str, rows: dict[str, str]) -> Table:
    """Names and figures."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column(unit, justify="right")
    for name, figure in rows.items():
        table.add_row(name, figure)
    return table


def fidelity_table(outcomes: Sequence[Outcome]) -> Table:
    """Every candidate against full precision, and against the captions."""
    table = Table(title=f"{PROMPTS} held-out prompts, lossless frames", title_justify="left")
    table.add_column("")
    for column in ("PSNR dB", "SSIM", "shapes as told"):
        table.add_column(column, justify="right")
    for outcome in outcomes:
        figures = ["reference", "reference"]
        if outcome.compared is not None:
            overall = outcome.compared["overall"]
            psnr, ssim = overall["psnr"]["mean"], overall["ssim"]["mean"]
            figures = ["identical" if psnr is None else f"{psnr:.2f}", f"{ssim:.4f}"]
        videos = outcome.graded["videos"]
        told, shapes = sum(video["shapes_as_told"] for video in videos), sum(len(video["shapes"]) for video in videos)
        table.add_row(outcome.name, *figures, f"{told} of {shapes}")
    return table


def show(demo: Demo, outcomes: Sequence[Outcome]) -> None:
    """Print the tables, draw the picture, and say where the videos are."""
    folder, caption = demo.folder, demo.samples[SHOWN]["prompt"]
    picture = folder / "strip.png"
    rows = [
        Row(
            row_text(outcome.name, outcome.psnr_db, outcome.graded["videos"][SHOWN]),
            read_video(outcome.videos / f"{SHOWN:03d}.mkv"),
        )
        for outcome in outcomes
        if "simulated" not in outcome.name
    ]
    draw_strip(picture, caption, rows)
    transformers = {"model": resolve_model(demo.model) / "transformer"}
    transformers |= {f"checkpoint, {scheme}": folder / f"checkpoint-{scheme}" for scheme in ("int8", "fp8")}
    sizes = {name: f"{folder_bytes(path) / 1e6:.2f}" for name, path in transformers.items()}
    seconds = {stage: f"{spent:.1f}" for stage, spent in demo.road.seconds.items()}
    seconds["in all"] = f"{sum(demo.road.seconds.values()):.1f}"
    for table in (
        fidelity_table(outcomes),
        two_columns("Transformer on disk", "MB", sizes),
        two_columns("Seconds, all runs", "s", seconds),
    ):
        console.print()
        console.print(table)
    console.print(f"\nThe shown clip: {caption}", soft_wrap=True, highlight=False)
    console.print(f"Video from the INT8 checkpoint: {folder / 'infer-int8' / f'{SHOWN:03d}.mp4'}", soft_wrap=True)
    console.print(f"Frames, full precision and the checkpoints below it: {picture}", soft_wrap=True)


def main(
    output: Annotated[Path, typer.Argument(help="Folder, made anew.")] = Path("build/demo"),
    model: Annotated[str, typer.Option(help="Built-in model or pipeline folder.")] = "wan-tiny-hard",
) -> None:
    """Travel the road into `output`."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    demo = Demo(model, output)
    show(demo, demo.travel())


if __name__ == "__main__":
    typer.run(main)
