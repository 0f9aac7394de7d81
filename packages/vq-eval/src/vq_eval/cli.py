"""`vq-eval`: simulate quantization in the full pipeline, and compare videos."""

from pathlib import Path
from typing import Annotated

import typer

from vq_core.cli import AsJson, Output, Verbose, new_app, report, required, run, set_up_logging

app = new_app("Simulate quantization in the full pipeline, and compare videos.")

Reference = Annotated[
    Path | None, typer.Option("--reference", help="Folder of videos to compare against.", show_default=False)
]
Candidate = Annotated[
    Path | None, typer.Option("--candidate", help="Folder of videos with the same names.", show_default=False)
]
MinPsnr = Annotated[
    float | None,
    typer.Option("--min-psnr", help="Fail where a video's PSNR is lower, in dB.", show_default=False),
]
MinSsim = Annotated[
    float | None,
    typer.Option("--min-ssim", help="Fail where a video's SSIM is lower, 1 at best.", show_default=False),
]


@app.callback()
def vq_eval() -> None:
    """Simulate quantization in the full pipeline, and compare videos."""


@app.command("compare")
def compare_command(
    reference: Reference = None,
    candidate: Candidate = None,
    output: Output = None,
    min_psnr: MinPsnr = None,
    min_ssim: MinSsim = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Measure PSNR and SSIM of two folders of videos with the same names.

    Videos are `.mp4` or `.mkv`; where a name has both, the lossless `.mkv` is compared.
    Writes `compare.json` (per frame, per video, overall) and `compare.md` into a new folder.
    Exits with 1 where a video is below `--min-psnr` or `--min-ssim`.

    For example:

        vq-eval compare --reference bf16 --candidate int8 -o report
        vq-eval compare --reference bf16 --candidate int8 -o report --min-psnr 30
    """
    from vq_core.meter import Meter
    from vq_eval.compare import compare
    from vq_eval.compare_report import MARKDOWN_NAME, summary_rows
    from vq_eval.gate import enforce

    set_up_logging(verbose)
    meter = Meter()
    folder: Path = required(output, "--output")
    minima = {"psnr": min_psnr, "ssim": min_ssim}
    result = compare(
        required(reference, "--reference"),
        required(candidate, "--candidate"),
        folder,
        {metric: minimum for metric, minimum in minima.items() if minimum is not None},
    )
    report(
        f"{candidate} against {reference}",
        summary_rows(result) | {"report": folder / MARKDOWN_NAME} | meter.usage().rows(),
        result={**result.without_frames(), "output": str(folder)},
        as_json=as_json,
    )
    enforce(result)


def main() -> None:
    """Entry point of the `vq-eval` command."""
    run(app)
