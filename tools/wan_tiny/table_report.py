"""The table of `make table`: its figures with confidence intervals, as Markdown for people and JSON for machines."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pages import table, write_page
from vq_wan_tiny.grade import Share
from vq_wan_tiny.grade_videos import share_text
from wan_tiny.measuring import Measured

NAME = "wan_tiny_table"
STRIP = "images/wan_tiny_hard_strip.png"


@dataclass(frozen=True)
class Mean:
    """A mean over videos with its 95 % confidence interval, bootstrapped over videos; one video has none."""

    value: float
    low: float | None
    high: float | None

    def text(self, digits: int) -> str:
        """Such as `31.2 (29.8 to 32.5)`."""
        if self.low is None or self.high is None:
            return f"{self.value:.{digits}f}"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


@dataclass(frozen=True)
class Line:
    """One line of the table; without PSNR and SSIM, the reference. Identical videos count in SSIM alone."""

    model: str
    candidate: str
    psnr_db: Mean | None
    ssim: Mean | None
    shares: dict[str, Share]


@dataclass(frozen=True)
class Run:
    """How all lines were measured."""

    command: str
    date: str
    steps: int
    prompts: int
    calibration_prompts: int
    torch: str
    device: str
    seconds: int
    shown_prompt: str


def line_of(model: str, candidate: str, compared: Mapping[str, Any] | None, graded: Mapping[str, Any]) -> Line:
    """One line, from a row's JSON of `vq-eval compare` (None for the reference) and that of `vq-wan-tiny grade`."""
    means: dict[str, Mean | None] = {"psnr": None, "ssim": None}
    if compared is not None:
        for metric in means:
            overall = compared["overall"][metric]
            low, high = overall["interval"] or (None, None)
            means[metric] = Mean(overall["mean"], low, high) if overall["mean"] is not None else None
    measured = {name: Share(**share) for name, share in graded["shares"].items()}
    return Line(model, candidate, means["psnr"], means["ssim"], measured)


def lines_of(model: str, measured: Measured) -> list[Line]:
    """The lines of a model's candidates, the reference first."""
    return [line_of(model, name, measured.compared.get(name), graded) for name, graded in measured.graded.items()]


def markdown(run: Run, lines: Sequence[Line]) -> str:
    """The page."""
    head = ["model", "transformer", "PSNR dB", "SSIM", "direction right", "speed right"]
    body = [
        [
            line.model,
            line.candidate,
            "reference" if line.psnr_db is None else line.psnr_db.text(1),
            "reference" if line.ssim is None else line.ssim.text(3),
            share_text(line.shares["direction"]),
            share_text(line.shares["speed"]),
        ]
        for line in lines
    ]
    return f"""\
# What quantization costs wan-tiny and its hard twins

Written by `{run.command}` on {run.date}: {run.steps} steps, {run.prompts} held-out prompts,
{run.calibration_prompts} other prompts for calibration, torch {run.torch}, {run.device}, {run.seconds} s in all.
The same figures, and the other grades, are in [{NAME}.json]({NAME}.json).

PSNR and SSIM are means over videos, against the same model in full precision from the same noise. Direction and speed
are the shares of shapes that move in the direction, and at the speed, that the caption says. Brackets hold 95 %
confidence intervals, bootstrapped over videos. Quantization is simulated (`vq-eval fake-quant`). RTN rounds to nearest
without smoothing. LLMC SmoothQuant is its recipe, with the three folds of a block that it uses; SmoothQuant smooths
every group that has an exact fold. ConvRot is how rotated files are published: every input rotated, rounded to nearest,
not calibrated. auto is for LightX2V, which does not rotate; auto ComfyUI and auto native are for runtimes that do;
mixed leaves the linears with the largest errors in full precision, 0.4 MB more. W6A8 and W4A8 are weights of 6 and 4
bits in ComfyUI's formats, which are rotated.

{table(head, body)}

The first held-out prompt on the hard twin: “{run.shown_prompt}”.

![Frames of the hard twin, in full precision and quantized]({STRIP})
"""


def write(folder: Path, run: Run, lines: Sequence[Line]) -> Path:
    """Write both files to `folder` and return the Markdown's path."""
    content = {**asdict(run), "lines": [asdict(line) for line in lines]}
    return write_page(folder, NAME, markdown(run, lines), content)
