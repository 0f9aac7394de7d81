"""`vq-infer`: make videos from a quantized checkpoint."""

import os
import sys

from vq_core.cli.app import new_app, report, set_up_logging
from vq_core.cli.app import run as run_app
from vq_core.cli.command import takes_options
from vq_infer.bench.cli import bench
from vq_infer.cli.batch import batch
from vq_infer.options import FILES, DoctorOptions, Task, VideoOptions

app = new_app("Make videos from a quantized checkpoint.")

FRAMES = ("image", "last_image")


@app.callback()
def vq_infer() -> None:
    """Make videos from a quantized checkpoint."""


@app.command("i2v")
@takes_options(VideoOptions, without=set(FILES) - set(FRAMES))
def i2v(options: VideoOptions) -> None:
    """Make a video from an image and a prompt, or from a first and a last frame.

    The image keeps its aspect: height x width is the area. An output that ends in `.mkv` is lossless.

    For example:

        vq-infer i2v --model MODEL --checkpoint ckpt --image cat.jpg --prompt "A cat surfs" -o cat.mp4

        vq-infer i2v --engine lightx2v --model NATIVE --checkpoint ckpt --image cat.jpg --prompt "A cat" -o cat.mp4
    """
    _make("i2v", options)


@app.command("t2v")
@takes_options(VideoOptions, without=FILES)
def t2v(options: VideoOptions) -> None:
    """Make a video from a prompt.

    An output that ends in `.mkv` is lossless.

    For example:

        vq-infer t2v --model Wan-AI/Wan2.1-T2V-14B-Diffusers --checkpoint ckpt --prompt "A cat surfs" -o cat.mp4

        vq-infer t2v --recipe recipe.yaml --prompt "A cat surfs" --steps 20 --seed 7 -o cat.mp4
    """
    _make("t2v", options)


@app.command("vace")
@takes_options(VideoOptions, without=FRAMES)
def vace(options: VideoOptions) -> None:
    """Make a video from a prompt, steered by reference images, or by a video and a mask (VACE).

    A video keeps its aspect: height x width is the area. An output that ends in `.mkv` is lossless.

    For example:

        vq-infer vace --model MODEL --checkpoint ckpt --reference cat.png --reference sea.png --prompt "A cat" -o c.mp4

        vq-infer vace --model MODEL --checkpoint ckpt --video cat.mp4 --mask sea.png --prompt "A dog surfs" -o dog.mp4
    """
    _make("vace", options)


@app.command("doctor")
@takes_options(DoctorOptions)
def doctor(options: DoctorOptions) -> None:
    """Show which schemes, kernels and attentions this machine can run, why not the others, and what fits its memory.

    For example:

        vq-infer doctor

        vq-infer doctor --device cuda:1 --json
    """
    from vq_infer.doctor import examine

    found = examine(options.device)
    report("This machine", found.rows(), result=found.to_json(), as_json=options.as_json)


def _make(task: Task, options: VideoOptions) -> None:
    from vq_infer.run import run

    set_up_logging(options.verbose)
    outcome = run(task, options)
    if outcome is None:  # the first of several processes reports
        return
    report(str(outcome.output), outcome.rows(), result=outcome.to_json(), as_json=options.as_json)


app.command("batch")(batch)
app.command("bench")(bench)


def main() -> None:
    """Entry point of the `vq-infer` command."""
    _let_memory_grow()
    run_app(app)


def _let_memory_grow() -> None:
    """Have torch, before it is imported, serve a stage from what the last one left, whatever pieces that came in.

    Otherwise gigabytes can lie between tensors where the VAE needs them whole. What the user has set is kept.
    """
    if sys.platform == "linux" and not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
