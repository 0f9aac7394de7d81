"""A report of wan-tiny-hard: full precision, its floor, and every candidate, from prompts to a page in the browser.

Run by `make report`. Where Chromium is installed, `--pictures` also takes pictures of the page, for the README.
"""

import shutil
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from candidates import Candidate, Candidates, Made, named, write_prompts
from report.pictures import take_pictures
from road import Road
from vq_core.errors import GateFailed

DRIFT_PROMPTS = 2  # of the trajectory and the layers, which sample many times
GATE = Path(__file__).with_name("gate.yaml")


def candidate(name: str, scheme: str, smoother: str, rounder: str = "rtn") -> Candidate:
    """How a model is quantized for the report, always with the statistics."""
    smooth = ("--method", smoother, "--scheme", scheme)
    return Candidate(name, scheme, smooth, ("--method", rounder), judged=True)


CANDIDATES = (
    candidate("INT8 RTN", "int8", "none"),
    candidate("INT8 SmoothQuant", "int8", "smoothquant"),
    candidate("INT8 auto", "int8", "auto", "auto"),
    candidate("FP8", "fp8", "auto", "auto"),
)

console = Console()


def prepare(road: Road, folder: Path, model: str, count: int, steps: int) -> None:
    """Prompts to calibrate with and others to measure with, and statistics."""
    write_prompts(road, folder, count)
    road.run("vq-wan-tiny prompts", "-o", folder / "prompts-few", "--count", min(count, DRIFT_PROMPTS), "--held-out")
    sample = ("--model", model, "--steps", steps)
    road.run("vq-calib collect", *sample, "--prompts", folder / "calibration", "-o", folder / "stats")


def compare(road: Road, folder: Path, candidates: list[Made]) -> Path:
    """Every candidate and the floor against full precision; the report shows those that fail the gate too."""
    rows = ("--reference", folder / "videos" / "full", "--floor", folder / "videos" / "floor")
    videos = named({made.candidate.name: made.videos for made in candidates})
    output = folder / "comparison"
    try:
        road.run("vq-eval compare", *rows, *videos, "--prompts", folder / "prompts", "--gate", GATE, "-o", output)
    except GateFailed as failure:
        console.print(str(failure), soft_wrap=True, markup=False, highlight=False)
    return output


def measure(road: Road, folder: Path, candidates: list[Made], model: str, steps: int) -> list[object]:
    """The trajectory of all candidates, and the layers of each; what `vq-eval report` is given of them."""
    sample = ("--model", model, "--steps", steps, "--prompts", folder / "prompts-few")
    weights = [word for made in candidates for word in ("--weights", made.weights)]
    qparams = [word for made in candidates for word in ("--qparams", f"{made.candidate.name}={made.qparams}")]
    road.run("vq-eval trajectory", *sample, *weights, *qparams, "-o", folder / "trajectory")
    options: list[object] = ["--trajectory", folder / "trajectory"]
    for made in candidates:
        output = folder / f"layers-{made.candidate.stem}"
        artifacts = ("--weights", made.weights, "--qparams", made.qparams)
        road.run("vq-eval layers", *sample, *artifacts, "-o", output)
        options += ["--layers", output]
    return options


def main(
    output: Annotated[Path, typer.Argument(help="Folder, made anew.")] = Path("build/report"),
    model: Annotated[str, typer.Option(help="Built-in model or pipeline folder.")] = "wan-tiny-hard",
    count: Annotated[int, typer.Option(min=1, help="Held-out prompts.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 8,
    pictures: Annotated[Path | None, typer.Option(help="Folder for pictures of the page, by Chromium.")] = None,
) -> None:
    """Make the report in `output/page`."""
    shutil.rmtree(output, ignore_errors=True)
    road = Road(console)
    prepare(road, output, model, count, steps)
    made = Candidates(road, model, output)
    made.render("full,floor", output / "prompts", steps, output / "videos")
    candidates = [made.make(candidate, output / "prompts", steps) for candidate in CANDIDATES]
    comparison = compare(road, output, candidates)
    measured = measure(road, output, candidates, model, steps)
    report = road.run("vq-eval report", "--comparison", comparison, *measured, "-o", output / "page")
    console.print(f"\n[bold]{report['headline']}[/bold]. {' '.join(report['reasons'])}", soft_wrap=True)
    console.print(f"{sum(road.seconds.values()):.0f} s in all. Open {report['page']}", soft_wrap=True)
    if pictures is not None:
        take_pictures(Path(report["page"]), pictures)


if __name__ == "__main__":
    typer.run(main)
