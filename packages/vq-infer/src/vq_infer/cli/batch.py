"""`vq-infer batch`: the videos of a whole set of prompts."""

from typing import Annotated

from vq_core.cli.app import report, set_up_logging
from vq_core.cli.options import (
    AsJson,
    Device,
    Fps,
    GuidanceScale,
    GuidanceScale2,
    Height,
    ModelOrDefault,
    NumFrames,
    Output,
    Prompts,
    Recipe,
    Resume,
    Seed,
    Steps,
    Verbose,
    Width,
    path_option,
)
from vq_core.remote.location import Location
from vq_infer.options import Attention, AttentionTolerance, EngineSettings, Offload, VaeTiling

Checkpoint = Annotated[Location | None, path_option("--checkpoint", help="Folder that vq-export wrote.")]


def batch(
    model: ModelOrDefault = None,
    checkpoint: Checkpoint = None,
    prompts: Prompts = None,
    output: Output = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    guidance_scale: GuidanceScale = None,
    guidance_scale_2: GuidanceScale2 = None,
    fps: Fps = None,
    seed: Seed = None,
    device: Device = None,
    attention: Attention = "sdpa",
    attention_tolerance: AttentionTolerance = None,
    offload: Offload = "auto",
    vae_tiling: VaeTiling = None,
    recipe: Recipe = None,
    resume: Resume = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Make a video of every prompt of a set with the native engine, to be compared with those of the model itself.

    They are written as `vq-eval fake-quant` writes its own: prompt i has seed + i, `native/000.mp4` is to look at and
    the lossless `native/000.mkv` to measure.

    With torchrun, processes share the prompts out: `torchrun --nproc-per-node 8 -m vq_infer batch …`

    For example:

        vq-infer batch --model MODEL --checkpoint ckpt --prompts builtin:evaluation -o engine

        vq-eval compare --reference reference/full --candidate engine/native -o report
    """
    from vq_core.runtime.meter import Meter
    from vq_core.runtime.process import this_process
    from vq_core.sampling.settings import SamplingOptions
    from vq_infer.engine.batch import BatchOptions, make_batch, resolve_batch

    set_up_logging(verbose)
    meter = Meter()
    sampling = SamplingOptions(steps, height, width, num_frames, guidance_scale, guidance_scale_2, fps, seed)
    settings = EngineSettings(attention, attention_tolerance, offload=offload, vae_tiling=vae_tiling)
    said = BatchOptions(model, checkpoint, prompts, output, sampling, device, recipe, settings)
    made = make_batch(resolve_batch(said), resume=resume, process=this_process())
    if made is None:  # another process reports
        return
    report(
        "Videos of the native engine",
        {**made.rows(), **meter.usage().rows()},
        result={**made.to_json(), "usage": vars(meter.usage())},
        as_json=as_json,
        next_steps=f"vq-eval compare --reference REFERENCE/full --candidate {made.folder} -o report",
    )
