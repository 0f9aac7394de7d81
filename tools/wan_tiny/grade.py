"""The acceptance test of wan-tiny: do its videos show what their captions say, and can the grader tell?

First, real clips of the world are graded: every error there is the grader's. Then the model, in full precision, makes
videos from the same held-out captions and first frames. Exits with 1 if a share is below its minimum.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from vq_core.runtime.progress import progress
from vq_core.sampling.model_defaults import defaults_of
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import read_samples
from vq_core.sampling.settings import Sampling
from vq_wan_tiny.grade import Grade, Share, grade, shares
from vq_wan_tiny.grade_videos import share_text
from vq_wan_tiny.prompts import draw_clips, write_prompts

SEED = 20_000  # of captions, first frames and noise; training and its own evaluation draw with others
OF_REAL_CLIPS = {"direction": 0.99, "speed": 0.99}
OF_THE_MODEL = {"direction": 0.95, "speed": 0.90}

console = Console()


def grade_real(count: int) -> list[Grade]:
    """Grades of rendered clips, which are right by construction."""
    grades = []
    with progress("grade real clips", count, "clip") as advance:
        for caption, frames in draw_clips(count, SEED, held_out=True):
            grades.append(grade(frames, caption, frames[0]))
            advance()
    return grades


def grade_model(model: str, count: int, sampling: Sampling, device: str | None) -> list[Grade]:
    """Grades of the videos that `model` makes from the same captions and first frames."""
    with TemporaryDirectory() as folder:
        write_prompts(Path(folder) / "prompts", count, SEED, held_out=True)
        pipeline = VideoPipeline(model, device)
        samples = read_samples(Path(folder) / "prompts", pipeline.inputs)
        conditions = pipeline.encode(samples, sampling)
    grades = []
    with progress("sample and grade", count, "video") as advance:
        clips = draw_clips(count, SEED, held_out=True)
        for index, (condition, (caption, real)) in enumerate(zip(conditions, clips, strict=True)):
            grades.append(grade(pipeline.sample(condition, sampling, SEED + index), caption, real[0]))
            advance()
    return grades


def show(title: str, grades: Sequence[Grade], minima: dict[str, float]) -> bool:
    """Print the shares with their intervals; return whether all reach their minimum."""
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for column in ("right, with 95 % interval", "asked for", ""):
        table.add_column(column, justify="right")
    measured: dict[str, Share] = shares(grades)
    for name, share in measured.items():
        asked = f"{100 * minima[name]:.0f} %" if name in minima else ""
        verdict = "" if name not in minima else "reached" if share.value >= minima[name] else "not reached"
        table.add_row(name.replace("_", " "), share_text(share), asked, verdict)
    console.print(table)
    return all(measured[name].value >= minimum for name, minimum in minima.items())


def main(
    model: Annotated[str, typer.Option(help="Built-in model or pipeline folder.")] = "wan-tiny",
    count: Annotated[int, typer.Option(min=1, help="How many held-out captions.")] = 200,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 20,
    device: Annotated[str | None, typer.Option(help="cuda, cpu …")] = None,
) -> None:
    """Grade real clips and the model's; exit with 1 if a share is below its minimum."""
    defaults = defaults_of(model)
    sampling = Sampling(
        steps=steps,
        height=defaults.height,
        width=defaults.width,
        num_frames=defaults.num_frames,
        guidance_scale=defaults.guidance_scale,
        fps=defaults.fps,
    )
    reached = show(f"{count} real clips, held out", grade_real(count), OF_REAL_CLIPS)
    grades = grade_model(model, count, replace(sampling, seed=SEED), device)
    reached &= show(f"{count} clips of {model}, held out, {steps} steps", grades, OF_THE_MODEL)
    if not reached:
        console.print("Not accepted.")
        sys.exit(1)
    console.print("Accepted.")


if __name__ == "__main__":
    typer.run(main)
