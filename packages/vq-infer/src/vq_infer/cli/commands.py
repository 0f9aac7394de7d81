"""`vq-infer`: make videos from a quantized checkpoint."""

import os
import sys

from vq_core.cli.app import new_app, report, set_up_logging
from vq_core.cli.app import run as run_app
from vq_core.cli.command import takes_options
from vq_infer.bench.options import BenchOptions
from vq_infer.options import FILES, BatchOptions, DoctorOptions, Task, VideoOptions

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


@app.command("batch")
@takes_options(BatchOptions)
def batch(options: BatchOptions) -> None:
    """Render every prompt of a set with the native engine, to compare with videos of the model itself.

    They are written as `vq-eval fake-quant` writes its own: prompt i has seed + i, `native/000.mp4` is to look at and
    the lossless `native/000.mkv` to measure.

    With torchrun, processes share the prompts out: `torchrun --nproc-per-node 8 -m vq_infer batch …`

    For example:

        vq-infer batch --model MODEL --checkpoint ckpt --prompts builtin:evaluation -o engine

        vq-eval compare --reference reference/full --candidate engine/native -o report
    """
    from vq_core.runtime.meter import Meter
    from vq_core.runtime.process import this_process
    from vq_infer.engine.batch import make_batch, resolve_batch

    set_up_logging(options.verbose)
    meter = Meter()
    made = make_batch(resolve_batch(options), resume=options.resume, process=this_process())
    if made is None:  # another process reports
        return
    report(
        "Videos of the native engine",
        {**made.rows(), **meter.usage().rows()},
        result={**made.to_json(), "usage": vars(meter.usage())},
        as_json=options.as_json,
        next_steps=f"vq-eval compare --reference REFERENCE/full --candidate {made.folder} -o report",
    )


@app.command("bench")
@takes_options(BenchOptions)
def bench(options: BenchOptions) -> None:
    """Measure every way to run the model on this machine: seconds a step, first step, memory, and where the time goes.

    Without a checkpoint the weights are random, made on the device, and the same for every contender.

    For example:

        vq-infer bench -o bench

        vq-infer bench --height 720 --width 1280 --contender diffusers_eager --contender vq_fp8 -o bench720
    """
    from vq_infer.bench.command import bench as run
    from vq_infer.bench.report.page import summary, title

    set_up_logging(options.verbose)
    results = run(options)
    report(title(results), summary(results), result=results.to_json(), as_json=options.as_json)


def _make(task: Task, options: VideoOptions) -> None:
    from vq_infer.run import run

    set_up_logging(options.verbose)
    outcome = run(task, options)
    if outcome is None:  # the first of several processes reports
        return
    report(str(outcome.output), outcome.rows(), result=outcome.to_json(), as_json=options.as_json)


def main() -> None:
    """Entry point of the `vq-infer` command."""
    _let_memory_grow()
    run_app(app)


def _let_memory_grow() -> None:
    """Have torch, before it is imported, reuse the memory of one stage for the next, whatever its pieces were.

    Otherwise gigabytes can lie between tensors when the VAE needs them in one piece. What the user has set is kept.
    """
    if sys.platform == "linux" and not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
        os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"
