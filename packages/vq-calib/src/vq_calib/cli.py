"""`vq-calib`: run a model over prompts and gather what its linears read."""

from typing import Annotated

import typer

from vq_core.cli.app import new_app, report, required, run, set_up_logging
from vq_core.cli.options import (
    AsJson,
    Device,
    GuidanceScale,
    GuidanceScale2,
    Height,
    Lora,
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
    path_argument,
)
from vq_core.remote.location import Location

app = new_app("Run a video diffusion model over prompts and gather what its linears read.")

StatsFolder = Annotated[Location, path_argument(help="Statistics from `vq-calib collect`.")]
Parts = Annotated[list[Location], path_argument(help="Statistics from `vq-calib collect --part K/N`.")]
EveryGroup = Annotated[bool, typer.Option("--groups", help="A row per group, not per place in the block.")]
Top = Annotated[
    int | None, typer.Option("--top", min=1, help="Only the N groups with the largest ratio.", show_default=False)
]
Tokens = Annotated[
    int | None,
    typer.Option(
        "--tokens",
        min=0,
        help="Rows of each input to keep, and a quarter more held out; 0 for none.  "
        "[default: 4 × the model's width, at most 4096]",
        show_default=False,
    ),
]
PartOption = Annotated[
    str | None,
    typer.Option("--part", help="K/N: every Nth prompt from the Kth; `merge` joins the parts.", show_default=False),
]
SecondsPerStep = Annotated[
    float | None,
    typer.Option(
        "--seconds-per-step", min=0, help="What a step takes, from an earlier run: gives the time.", show_default=False
    ),
]


@app.command("collect")
def collect_command(
    model: ModelOrDefault = None,
    lora: Lora = None,
    prompts: Prompts = None,
    output: Output = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    guidance_scale: GuidanceScale = None,
    guidance_scale_2: GuidanceScale2 = None,
    seed: Seed = None,
    tokens: Tokens = None,
    part: PartOption = None,
    device: Device = None,
    recipe: Recipe = None,
    resume: Resume = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Sample every prompt with the real pipeline and gather statistics of every linear's input.

    Covers the whole trajectory, both guidance branches and every transformer, and keeps a sample of the rows.
    Under torchrun every process takes its share of the prompts, and the first one merges.

    For example:

        vq-calib collect --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --prompts prompts -o stats

        vq-calib collect --model MODEL --prompts prompts/samples.json -o stats --steps 20 --seed 7

        vq-calib collect --recipe smoothquant_w_a.yml -o stats --resume

        vq-calib collect --model MODEL --lora distilled.safetensors:0.8 --prompts prompts -o stats

        vq-calib collect --model MODEL --prompts prompts -o part-1 --part 1/4

        torchrun --nproc-per-node 8 -m vq_calib collect --model MODEL --prompts prompts -o stats
    """
    from vq_calib.collection.distributed import collect_here
    from vq_calib.planning.request import CollectOptions, request_of
    from vq_core.recipes.recipe import read_recipe
    from vq_core.runtime.meter import Meter
    from vq_core.sampling.settings import SamplingOptions

    set_up_logging(verbose)
    meter = Meter()
    said = read_recipe(recipe)
    stats = required(output or said.path_of("activation-stats"), "--output")
    sampling = SamplingOptions(steps, height, width, num_frames, guidance_scale, guidance_scale_2, seed=seed)
    asked = CollectOptions(model, prompts, sampling, tokens, part, device, lora)
    request = request_of(asked, said)
    collected = collect_here(request, stats, resume=resume)
    if collected is None:
        return
    said_again = [*(f"--lora {it}" for it in lora or ()), *([f"--recipe {recipe}"] if recipe else [])]
    how = " ".join([*said_again, *([] if said.output else ["-o smoothed"])])
    smooth = f"vq-algos smooth --model {request.model} --stats {collected.output} {how}"
    report(
        f"Statistics of {request.model}",
        {**collected.rows(), **meter.usage().rows()},
        result={**collected.to_json(), "usage": vars(meter.usage())},
        as_json=as_json,
        next_steps=f"vq-calib merge {collected.output} ... -o stats" if request.part else smooth,
    )


@app.command("plan")
def plan_command(
    model: ModelOrDefault = None,
    lora: Lora = None,
    prompts: Prompts = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    guidance_scale: GuidanceScale = None,
    guidance_scale_2: GuidanceScale2 = None,
    seed: Seed = None,
    tokens: Tokens = None,
    part: PartOption = None,
    device: Device = None,
    recipe: Recipe = None,
    seconds_per_step: SecondsPerStep = None,
    as_json: AsJson = False,
) -> None:
    """Tell what `collect` with the same options will run, keep and write, without running anything.

    For example:

        vq-calib plan --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --prompts prompts

        vq-calib plan --model MODEL --prompts prompts --tokens 2048 --part 1/8 --seconds-per-step 9.5
    """
    from vq_calib.estimate import estimate
    from vq_calib.planning.request import CollectOptions, request_of
    from vq_calib.planning.run_plan import plan_run
    from vq_core.recipes.recipe import read_recipe
    from vq_core.sampling.settings import SamplingOptions

    sampling = SamplingOptions(steps, height, width, num_frames, guidance_scale, guidance_scale_2, seed=seed)
    asked = CollectOptions(model, prompts, sampling, tokens, part, device, lora)
    request = request_of(asked, read_recipe(recipe))
    expected = estimate(plan_run(request), seconds_per_step)
    report(f"Plan for {request.model}", expected.rows(), result=expected.to_json(), as_json=as_json)


@app.command("merge")
def merge_command(parts: Parts, output: Output = None, resume: Resume = False, as_json: AsJson = False) -> None:
    """Join the parts of one run; all of them give the very bytes that the whole run would have given.

    For example:

        vq-calib merge part-1 part-2 part-3 part-4 -o stats
    """
    from vq_calib.collection.collect import describe
    from vq_calib.collection.merge import merge
    from vq_core.runtime.meter import Meter

    meter = Meter()
    stats = required(output, "--output")
    merge(parts, stats, resume=resume)
    merged = describe(stats)
    report(
        f"Statistics of {len(parts)} parts",
        {**merged.rows(), **meter.usage().rows()},
        result={**merged.to_json(), "usage": vars(meter.usage())},
        as_json=as_json,
        next_steps=f"vq-algos smooth --model MODEL --stats {stats} -o smoothed",
    )


@app.command("show")
def show_command(stats: StatsFolder, groups: EveryGroup = False, top: Top = None, as_json: AsJson = False) -> None:
    """Show which inputs have outlier channels, and at which noise levels.

    For example:

        vq-calib show stats

        vq-calib show stats --top 10
    """
    from vq_calib.show import show

    show(stats, every_group=groups, top=top, as_json=as_json)


def main() -> None:
    """Entry point of the `vq-calib` command."""
    run(app)
