"""Do the algorithms meet their requirements, on synthetic layers and on the trained models? Exits with 1 if not."""

import time
from pathlib import Path
from typing import Annotated

import torch
import typer

from pages import enforce, machine, today, typed
from proof.real import PROMPTS, STEPS, measure_real, real_verdicts
from proof.report import Run, write
from proof.suite import measure
from proof.synthetic import Sizes
from proof.verdicts import verdicts

SEEDS = 4


def main(
    seeds: Annotated[int, typer.Option(min=1, help="Seeds of the synthetic layers.")] = SEEDS,
    models: Annotated[bool, typer.Option(help="Measure the trained models too.")] = True,
    count: Annotated[int, typer.Option(min=1, help="Held-out prompts for these.")] = PROMPTS,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = STEPS,
    output: Annotated[Path, typer.Option(help="Folder of the page.")] = Path("docs"),
    folder: Annotated[Path, typer.Option(help="Folder of intermediate files, made anew.")] = Path("build/proof"),
) -> None:
    """Measure every method, write the page, and check the figures against the requirements."""
    start = time.monotonic()
    sizes = Sizes()

    def run() -> Run:
        return Run(
            command=typed("tools/proof/prove.py", "proof"),
            date=today(),
            torch=torch.__version__,
            device=machine(),
            seconds=round(time.monotonic() - start),
            seeds=seeds,
            sizes=sizes,
            prompts=count,
            steps=steps,
        )

    figures = measure(range(seeds), sizes)
    judged = verdicts(figures)
    page = write(output, run(), figures, None, judged)  # the models take longer; the page is complete without them
    if models:
        real = measure_real(folder, count, steps)
        judged += real_verdicts(real.lines)
        page = write(output, run(), figures, real, judged)
    print(f"Wrote {page} in {round(time.monotonic() - start)} s")
    enforce(judged)


if __name__ == "__main__":
    typer.run(main)
