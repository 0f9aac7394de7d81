"""Train wan-tiny from nothing but a seed: the VAE, then the transformer with its encoders, then the evaluation.

Each step can be run alone, on another day and another machine; the transformer needs the VAE's folder. From the root:

    PYTHONPATH=tools uv run python -m wan_tiny.training.train all -o FOLDER
"""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console

from vq_core.sampling.pretrained import load_model
from vq_wan_tiny.grade import Grade, grade, shares
from wan_tiny.training import parts, whole_clip
from wan_tiny.training.assemble import SAMPLING, assemble
from wan_tiny.training.dataset import Dataset, encode_clips
from wan_tiny.training.sample import sample_clips
from wan_tiny.training.train_transformer import Schedule, train_transformer
from wan_tiny.training.train_vae import STAGES, Stage, measure_vae, save_vae, seconds_since, train_vae

VAE_FOLDER, MODEL_FOLDER, LOG_FILE = "vae", "model", "log.jsonl"
HELD_OUT_SEED = 10_000  # of the evaluation's clips, far from any training seed
STRIP_CLIPS, STRIP_FRAMES = 8, 5

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
console = Console()

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder of the run.")]
Seed = Annotated[int, typer.Option(help="Seed of data and weights.")]
Device = Annotated[str, typer.Option(help="cuda or cpu.")]
Scale = Annotated[float, typer.Option(help="Factor on the number of steps and clips; small for a rehearsal.")]
Compiled = Annotated[bool, typer.Option("--compile/--no-compile", help="Compile the transformer's blocks.")]


class Log:
    """Figures of the run, on the screen and as JSON lines."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / LOG_FILE
        self._start = time.monotonic()

    def __call__(self, name: str, step: int, value: float) -> None:
        entry = {"name": name, "step": step, "value": value, "seconds": round(time.monotonic() - self._start, 1)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        console.print(f"{entry['seconds']:8.1f} s  {name} {step}: {value:.4f}", highlight=False)


@app.callback()
def prepare() -> None:
    """Train wan-tiny: data, VAE, transformer and evaluation from a seed."""
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")


@app.command()
def vae(output: Output, seed: Seed = 0, device: Device = "cuda", scale: Scale = 1.0) -> None:
    """Train the VAE alone and measure it on fresh clips."""
    log = Log(output)
    start = time.monotonic()
    stages = tuple(Stage(max(int(s.steps * scale), 1), s.batch, s.frames, s.side) for s in STAGES)
    trained = train_vae(seed, device, log, stages)
    log("vae_seconds", 0, seconds_since(start))
    log("vae_validation_psnr", 0, measure_vae(trained, HELD_OUT_SEED, device))
    save_vae(trained, output / VAE_FOLDER)


@app.command()
def transformer(
    output: Output,
    seed: Seed = 0,
    device: Device = "cuda",
    scale: Scale = 1.0,
    compiled: Compiled = True,
    clips: Annotated[int, typer.Option(help="Clips to train on.")] = 30_000,
    steps: Annotated[int, typer.Option(help="Training steps.")] = Schedule.steps,
    held_out: Annotated[int, typer.Option(help="Held-out captions to grade.")] = 200,
) -> None:
    """Train the transformer and its encoders on the VAE in the run's folder, assemble the pipeline, and grade it."""
    from diffusers import AutoencoderKLWan

    log = Log(output)
    start = time.monotonic()
    frozen = load_model(AutoencoderKLWan, output / VAE_FOLDER, torch_dtype=torch.float32).to(device)
    whole_clip.prepare(frozen)
    tokenizer = parts.build_tokenizer()
    data = encode_clips(frozen, tokenizer, max(int(clips * scale), 16), seed, device)
    log("encoding_seconds", len(data.tokens), seconds_since(start))
    schedule = Schedule(max(int(steps * scale), 1), max(int(Schedule.batch * min(4 * scale, 1)), 1))
    start = time.monotonic()
    model = train_transformer(data, tokenizer, seed, device, log, schedule, compiled=compiled)
    log("transformer_seconds", schedule.steps, seconds_since(start))
    assemble(output / VAE_FOLDER, model, output / MODEL_FOLDER)
    start = time.monotonic()
    for name, is_held_out, guidance in (
        ("held_out", True, SAMPLING["guidance_scale"]), ("seen", False, SAMPLING["guidance_scale"]),
        ("held_out_guidance_2", True, 2.0), ("held_out_guidance_5", True, 5.0),
    ):  # fmt: skip
        truth = encode_clips(frozen, tokenizer, held_out, HELD_OUT_SEED, device, held_out=is_held_out)
        videos = sample_clips(
            model, frozen, tokenizer, truth, seed, device, steps=int(SAMPLING["steps"]), guidance=guidance
        )
        for what, share in shares(grade_clips(truth, videos)).items():
            log(f"{name}_{what}", held_out, share.value)
        if name == "held_out":
            _draw_strips(videos, truth.captions, output)
    log("evaluation_seconds", 0, seconds_since(start))


@app.command(name="all")
def everything(output: Output, seed: Seed = 0, device: Device = "cuda", scale: Scale = 1.0) -> None:
    """Train the VAE, then the transformer, then grade."""
    vae(output, seed, device, scale)
    transformer(output, seed, device, scale)


def grade_clips(truth: Dataset, videos: NDArray[np.uint8]) -> list[Grade]:
    """A grade for each of `videos` [N, 17, 96, 96, 3]."""
    images = truth.images.permute(0, 2, 3, 1).cpu().numpy()
    with ThreadPoolExecutor() as pool:
        return list(pool.map(grade, videos, truth.captions, images))


def _draw_strips(videos: NDArray[np.uint8], captions: list[str], output: Path) -> None:
    """Frames of the first clips, one clip a row, and their captions beside as text."""
    chosen = np.linspace(0, videos.shape[1] - 1, STRIP_FRAMES).round().astype(int)
    rows = [np.concatenate(list(clip[chosen]), axis=1) for clip in videos[:STRIP_CLIPS]]
    Image.fromarray(np.concatenate(rows)).save(output / "samples.png")
    (output / "samples.txt").write_text("\n".join(captions[:STRIP_CLIPS]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    app()
