"""Whole videos of Wan2.1-14B's shape in less and less device memory: what was planned, what was taken, and how long.

A random image-to-video pipeline with every part of the real size is written, its transformer converted by `vq-export`,
and `vq-infer i2v` makes a video of a few steps from it, first with the whole device and then with only as much of it
free as smaller cards have: another process holds the rest. Needs about 60 GB of disk. From the root:

    PYTHONPATH=tools uv run python tools/bench/memory.py memory.json --free 26 --free 24 --free 16
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from bench.random_pipeline import BLOCKS, write_pipeline
from road import run_apart

HOLD = """
import sys, torch
free, _ = torch.cuda.mem_get_info()
held = torch.empty(int(free - float(sys.argv[1])), dtype=torch.uint8, device="cuda")
torch.cuda.synchronize()
print(torch.cuda.mem_get_info()[0], flush=True)
sys.stdin.read()
"""


@contextmanager
def only_free(gigabytes: float | None) -> Iterator[None]:
    """Leave only so much device memory free, the CUDA context of its user included; None leaves all of it."""
    if gigabytes is None:
        yield
        return
    command = [sys.executable, "-c", HOLD, str(gigabytes * 1e9)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        free = int(holder.stdout.readline())
        if free > gigabytes * 1e9:
            raise RuntimeError(f"{free / 1e9:.1f} GB are free, and {gigabytes} should be")
        try:
            yield
        finally:
            holder.communicate()


def videos(
    folder: Path, device: str, scheme: str, sizes: list[float | None], sampling: dict[str, object], scale: int
) -> Iterator[dict[str, Any]]:
    """The conversion's cost, then one video for each of `sizes`."""
    pipeline, checkpoint = folder / "pipeline", folder / "checkpoint"
    write_pipeline(pipeline, device, scale=scale, blocks=BLOCKS // scale)
    conversion = run_apart("vq-export lightx2v", "--model", pipeline, "--scheme", scheme, "-o", checkpoint)
    yield {"conversion": conversion["usage"]}
    for weights in (pipeline / "transformer").glob("*.safetensors"):  # the configuration is all that is needed now
        weights.unlink()
    image = folder / "image.png"
    Image.linear_gradient("L").resize((832, 480)).convert("RGB").save(image)
    options = [f"--{name.replace('_', '-')}={value}" for name, value in sampling.items()]
    for size in sizes:
        output = folder / "video.mkv"
        words = ["--model", pipeline, "--checkpoint", checkpoint, "--image", image, "--prompt", "A cat surfs"]
        with only_free(size):
            result = run_apart("vq-infer i2v", *words, *options, "--device", device, "-o", output)
        output.unlink()
        yield {"free_gb": size} | {key: result[key] for key in ("memory", "stages", "usage", "step_seconds", "kernels")}


def main(
    output: Annotated[Path, typer.Argument(help="JSON to write.")],
    free: Annotated[list[float] | None, typer.Option(help="GB of device memory that are free; repeatable.")] = None,
    scheme: Annotated[str, typer.Option(help="int8 or fp8.")] = "int8",
    attention: Annotated[str, typer.Option(help="What `--attention` takes.")] = "auto",
    height: int = 480,
    width: int = 832,
    num_frames: int = 81,
    steps: Annotated[int, typer.Option(help="Denoising steps.")] = 3,
    device: Annotated[str, typer.Option(help="cuda or cpu.")] = "cuda",
    scale: Annotated[int, typer.Option(help="Divide every size by this.")] = 1,
    folder: Annotated[Path | None, typer.Option(help="Where to write the model.")] = None,
) -> None:
    """Measure, print a table and keep the figures."""
    table = Table(title=f"Wan2.1-14B's shape, {scheme}, {width}x{height}, {num_frames} frames, on {device}")
    for column in ("free, GB", "plan", "peak, GiB", "s a step", "stages, s", "host, GiB"):
        table.add_column(column)
    sampling = {"height": height, "width": width, "num_frames": num_frames, "steps": steps, "attention": attention}
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        for result in videos(Path(temporary), device, scheme, [None, *(free or [])], sampling, scale):
            found.append(result)
            machine = torch.cuda.get_device_name() if device == "cuda" else "CPU"
            content = {"machine": machine, "scheme": scheme, "scale": scale, **sampling, "runs": found}
            output.write_text(json.dumps(content, indent=1) + "\n")
            print(json.dumps(result), flush=True)
            if "usage" in result:
                usage, stages = result["usage"], result["stages"]
                table.add_row(
                    "all" if result["free_gb"] is None else f"{result['free_gb']:g}",
                    result["memory"],
                    f"{usage['device_peak_bytes'] / 2**30:.1f}",
                    f"{result['step_seconds']:.2f}",
                    ", ".join(f"{name} {stage['seconds']:.0f}" for name, stage in stages.items()),
                    f"{usage['host_peak_bytes'] / 2**30:.1f}",
                )
    Console().print(table)


if __name__ == "__main__":
    typer.run(main)
