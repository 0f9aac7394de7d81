"""What quantization costs wan-tiny and its hard twins: fidelity and grades of every candidate, in one run."""

import time
from pathlib import Path
from typing import Annotated

import typer

from candidates import CALIBRATION_PROMPTS, Candidate
from pages import machine, today, typed
from proof.real import EASY, HARD, HARDER, methods_of, name_of
from strip import Row, draw_strip, psnr_of, row_text
from wan_tiny.measuring import FULL, Measured, measure_models
from wan_tiny.table_report import STRIP, Run, lines_of, write

SHOWN = 0  # the prompt of the picture

CANDIDATES = tuple(
    Candidate(name_of(method, scheme), scheme, *methods_of(scheme)[method], judged=True)
    for scheme, methods in (
        (
            "int8",
            (
                "RTN",
                "LLMC SmoothQuant",
                "ConvRot",
                "SmoothQuant",
                "auto",
                "auto ComfyUI",
                "auto native",
                "auto native mixed",
            ),
        ),
        ("fp8", ("RTN", "SmoothQuant", "auto")),
        ("w6a8", ("RTN", "auto")),
        ("w4a8", ("RTN", "auto")),
        ("int8+fp8", ("auto native",)),
        ("w4a8+int8", ("auto native",)),
    )
    for method in methods
)
PICTURED = ("INT8 RTN", "INT8 ConvRot", "INT8 auto", "FP8 auto", "W4A8 RTN", "W4A8 auto")


def draw(path: Path, measured: Measured) -> None:
    """The picture of one prompt."""
    from vq_core.media.video import read_video

    rows = []
    for name in (FULL, *PICTURED):
        graded = measured.graded[name]["videos"][SHOWN]
        psnr = psnr_of(measured.compared[name], SHOWN) if name in measured.compared else None
        rows.append(Row(row_text(name, psnr, graded), read_video(measured.videos[name] / f"{SHOWN:03d}.mkv")))
    draw_strip(path, measured.graded[FULL]["videos"][SHOWN]["prompt"], rows)


def main(
    easy: Annotated[str, typer.Option(help="The model.")] = EASY,
    hard: Annotated[str, typer.Option(help="Its hard twin, which is pictured.")] = HARD,
    harder: Annotated[str, typer.Option(help="The harder one.")] = HARDER,
    count: Annotated[int, typer.Option(min=1, help="Held-out prompts.")] = 32,
    steps: Annotated[int, typer.Option(min=1, help="Denoising steps.")] = 16,
    output: Annotated[Path, typer.Option(help="Folder of the table and the picture.")] = Path("docs"),
    folder: Annotated[Path, typer.Option(help="Folder of intermediate files, made anew.")] = Path("build/table"),
) -> None:
    """Measure every candidate and write the table."""
    start = time.monotonic()
    results = measure_models((easy, hard, harder), CANDIDATES, folder, count, steps)

    import torch

    shown = results[hard].graded[FULL]["videos"][SHOWN]["prompt"]
    run = Run(
        command=typed("tools/wan_tiny/table.py", "table"),
        date=today(),
        steps=steps,
        prompts=count,
        calibration_prompts=CALIBRATION_PROMPTS,
        torch=torch.__version__,
        device=machine(),
        seconds=round(time.monotonic() - start),
        shown_prompt=shown,
    )
    lines = [line for model, result in results.items() for line in lines_of(model, result)]
    draw(output / STRIP, results[hard])
    print(f"Wrote {write(output, run, lines)} and {output / STRIP} in {run.seconds} s")


if __name__ == "__main__":
    typer.run(main)
