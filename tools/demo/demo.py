"""The whole road on a tiny image-to-video model: every command of every stage, INT8 and FP8, and what it cost.

Run by `make demo`. The model is random, so its video is abstract; what the table shows is how little of it changes.
"""

import contextlib
import io
import json
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from vq_core.tiny import build_tiny
from vq_core.video import read_video

SCHEMES = ("int8", "fp8")
PROMPTS = ("The astronaut smiles and turns to the window", "The astronaut waves, the flag moves in the wind")
SAMPLING = ["--steps", "8", "--height", "96", "--width", "96", "--num-frames", "17"]
SEED = 42
STRIP_FRAMES = 5

console = Console()


@dataclass(frozen=True)
class Fidelity:
    """One row of the table."""

    what: str
    psnr_db: float
    ssim: float


class Road:
    """Runs the commands of the stages in this process, one by one, as they would be typed."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def run(self, command: str, *arguments: object, stage: str | None = None) -> dict[str, Any]:
        """Run `command` (such as `vq-calib collect`) and return its JSON result."""
        words = [str(argument) for argument in arguments]
        console.print(f"[bold]$ {shlex.join([*command.split(), *words])}", highlight=False, soft_wrap=True)
        program, *sub_command = command.split()
        app = import_module(f"{program.replace('-', '_')}.cli").app
        start = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            app([*sub_command, *words, "--json"], standalone_mode=False)
        name = stage or command
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start
        result: dict[str, Any] = json.loads(printed.getvalue())
        return result


def prepare(folder: Path) -> tuple[Path, Path]:
    """A tiny model, and prompts with a photograph as their image: the model's and the prompts' folders."""
    from skimage.data import astronaut

    model, prompts = folder / "model", folder / "prompts"
    build_tiny("i2v", model)
    prompts.mkdir()
    Image.fromarray(astronaut()).save(prompts / "astronaut.png")
    samples = [{"image": "astronaut.png", "prompt": prompt, "negative_prompt": ""} for prompt in PROMPTS]
    (prompts / "samples.json").write_text(json.dumps(samples, indent=2))
    return model, prompts


def travel(road: Road, folder: Path, model: Path, prompts: Path) -> list[Fidelity]:
    """Take both schemes down the road; what came out, compared with full precision."""
    stats, smoothed = folder / "stats", folder / "smoothed"
    common = [*SAMPLING, "--seed", SEED]
    road.run("vq-calib collect", "--model", model, "--prompts", prompts, "-o", stats, *common)
    road.run("vq-algos smooth", "--model", model, "--stats", stats, "-o", smoothed)
    rows: list[Fidelity] = []
    for scheme in SCHEMES:
        qparams, checkpoint, videos = (folder / f"{what}-{scheme}" for what in ("qparams", "checkpoint", "videos"))
        road.run("vq-algos quantize", "--weights", smoothed, "--scheme", scheme, "-o", qparams)
        road.run("vq-export lightx2v", "--weights", smoothed, "--qparams", qparams, "-o", checkpoint)
        road.run("vq-export verify", checkpoint, "--model", model)
        road.run(
            "vq-eval fake-quant", "--model", model, "--weights", smoothed, "--qparams", qparams,
            "--prompts", prompts, "-o", videos, *common,
        )  # fmt: skip
        infer(road, folder / f"infer-{scheme}", model, checkpoint, prompts, "mkv", "mp4")
        plain = folder / f"checkpoint-{scheme}-rtn"
        road.run("vq-export lightx2v", "--model", model, "--scheme", scheme, "-o", plain, stage="conversion only")
        infer(road, folder / f"infer-{scheme}-rtn", model, plain, prompts, "mkv")
        for what, candidate in (
            (f"{scheme.upper()} smoothed, simulated", videos / "fake-quant"),
            (f"{scheme.upper()} smoothed, real checkpoint", folder / f"infer-{scheme}"),
            (f"{scheme.upper()} rounded only, real checkpoint", folder / f"infer-{scheme}-rtn"),
        ):
            report = folder / f"report-{len(rows)}"
            result = road.run("vq-eval compare", "--reference", videos / "full", "--candidate", candidate, "-o", report)
            rows.append(Fidelity(what, result["overall"]["psnr"]["mean"], result["overall"]["ssim"]["mean"]))
    return rows


def infer(road: Road, output: Path, model: Path, checkpoint: Path, prompts: Path, *suffixes: str) -> None:
    """One video per prompt from `checkpoint`: mkv, lossless, to measure, or mp4 to look at."""
    output.mkdir()
    for index, prompt in enumerate(PROMPTS):
        for suffix in suffixes:
            road.run(
                "vq-infer i2v", "--model", model, "--checkpoint", checkpoint, "--image", prompts / "astronaut.png",
                "--prompt", prompt, "-o", output / f"{index:03d}.{suffix}", *SAMPLING, "--seed", SEED + index,
            )  # fmt: skip


def draw_strip(folder: Path) -> Path:
    """Frames of the first video side by side: full precision above INT8 above FP8."""
    sources = [folder / "videos-int8" / "full", *(folder / f"infer-{scheme}" for scheme in SCHEMES)]
    rows = []
    for source in sources:
        frames = read_video(source / "000.mkv")
        chosen = np.linspace(0, len(frames) - 1, STRIP_FRAMES).round().astype(int)
        rows.append(np.concatenate(list(frames[chosen]), axis=1))
    path = folder / "strip.png"
    Image.fromarray(np.concatenate(rows, axis=0)).save(path)
    return path


def folder_bytes(folder: Path) -> int:
    """Size of all safetensors files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def show(road: Road, folder: Path, rows: list[Fidelity]) -> None:
    """Print the tables and say where the videos are."""
    fidelity = Table(title="Compared with full precision (random tiny model, lossless frames)", title_justify="left")
    for column in ("", "PSNR dB", "SSIM"):
        fidelity.add_column(column, justify="left" if not column else "right")
    for row in rows:
        fidelity.add_row(row.what, f"{row.psnr_db:.2f}", f"{row.ssim:.4f}")
    sizes = Table(title="Transformer on disk", title_justify="left")
    for column in ("", "MB"):
        sizes.add_column(column, justify="left" if not column else "right")
    sizes.add_row("model, bfloat16", f"{folder_bytes(folder / 'model' / 'transformer') / 1e6:.2f}")
    for scheme in SCHEMES:
        sizes.add_row(f"checkpoint, {scheme}", f"{folder_bytes(folder / f'checkpoint-{scheme}') / 1e6:.2f}")
    stages = Table(title="Seconds per stage (all runs of it)", title_justify="left")
    for column in ("", "s"):
        stages.add_column(column, justify="left" if not column else "right")
    for stage, seconds in road.seconds.items():
        stages.add_row(stage, f"{seconds:.1f}")
    for table in (fidelity, sizes, stages):
        console.print()
        console.print(table)
    console.print(f"\nVideo from the INT8 checkpoint: {folder / 'infer-int8' / '000.mp4'}", soft_wrap=True)
    console.print(f"Frames, full precision above INT8 above FP8: {draw_strip(folder)}", soft_wrap=True)


def main(output: Path) -> None:
    """Travel the road into the folder `output`, which is made anew."""
    shutil.rmtree(output, ignore_errors=True)
    output.mkdir(parents=True)
    road = Road()
    rows = travel(road, output, *prepare(output))
    show(road, output, rows)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/demo"))
