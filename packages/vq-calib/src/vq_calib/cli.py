"""`vq-calib`: run a model over prompts and gather what its linears read."""

from vq_calib.options import CollectOptions, MergeOptions, PlanOptions, ShowOptions
from vq_core.cli.app import new_app, report, required, run, set_up_logging
from vq_core.cli.command import takes_options

app = new_app("Run a video diffusion model over prompts and gather what its linears read.")


@app.command("collect")
@takes_options(CollectOptions)
def collect_command(options: CollectOptions) -> None:
    """Sample every prompt with the real pipeline and gather statistics of every linear's input.

    Covers the whole trajectory, both guidance branches and every transformer, and keeps a sample of the rows.
    Under torchrun every process takes its share of the prompts, and the first one merges them.

    For example:

        vq-calib collect --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --prompts prompts -o stats

        vq-calib collect --model MODEL --prompts prompts/samples.json -o stats --steps 20 --seed 7

        vq-calib collect --recipe smoothquant_w_a.yml -o stats --resume

        vq-calib collect --model MODEL --lora distilled.safetensors:0.8 --prompts prompts -o stats

        vq-calib collect --model MODEL --prompts prompts -o part-1 --part 1/4

        torchrun --nproc-per-node 8 -m vq_calib collect --model MODEL --prompts prompts -o stats
    """
    from vq_calib.collection.distributed import collect_here
    from vq_calib.planning.run_plan import request_of
    from vq_core.recipes.recipe import read_recipe
    from vq_core.runtime.meter import Meter
    from vq_core.runtime.process import this_process

    set_up_logging(options.verbose)
    meter = Meter()
    said = read_recipe(options.recipe)
    stats = required(options.output or said.path_of("activation-stats"), "--output")
    request = request_of(options, said)
    collected = collect_here(request, stats, this_process(), resume=options.resume)
    if collected is None:
        return
    more = [f"--lora {it}" for it in options.lora or ()]
    if options.recipe:
        more.append(f"--recipe {options.recipe}")
    if not said.output:
        more.append("-o smoothed")
    smooth = f"vq-algos smooth --model {request.model} --stats {collected.output} {' '.join(more)}"
    report(
        f"Statistics of {request.model}",
        {**collected.rows(), **meter.usage().rows()},
        result={**vars(collected), "usage": vars(meter.usage())},
        as_json=options.as_json,
        next_steps=f"vq-calib merge {collected.output} ... -o stats" if request.part else smooth,
        note=request.note,
    )


@app.command("plan")
@takes_options(PlanOptions)
def plan_command(options: PlanOptions) -> None:
    """Show what `collect` would run, keep and write with the same options, without running anything.

    For example:

        vq-calib plan --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --prompts prompts

        vq-calib plan --model MODEL --prompts prompts --tokens 2048 --part 1/8 --seconds-per-step 9.5
    """
    from dataclasses import asdict

    from vq_calib.estimate import estimate
    from vq_calib.planning.run_plan import plan_run, request_of
    from vq_core.recipes.recipe import read_recipe

    request = request_of(options, read_recipe(options.recipe))
    expected = estimate(plan_run(request), options.seconds_per_step)
    report(
        f"Plan for {request.model}",
        expected.rows(),
        result=asdict(expected),
        as_json=options.as_json,
        note=request.note,
    )


@app.command("merge")
@takes_options(MergeOptions)
def merge_command(options: MergeOptions) -> None:
    """Join the parts of one run; all parts together give the same bytes as the whole run.

    For example:

        vq-calib merge part-1 part-2 part-3 part-4 -o stats
    """
    from vq_calib.collection.collect import describe
    from vq_calib.collection.merge import merge
    from vq_core.runtime.meter import Meter

    meter = Meter()
    stats = required(options.output, "--output")
    merge(options.parts, stats, resume=options.resume)
    merged = describe(stats)
    report(
        f"Statistics of {len(options.parts)} parts",
        {**merged.rows(), **meter.usage().rows()},
        result={**vars(merged), "usage": vars(meter.usage())},
        as_json=options.as_json,
        next_steps=f"vq-algos smooth --model MODEL --stats {stats} -o smoothed",
    )


@app.command("show")
@takes_options(ShowOptions)
def show_command(options: ShowOptions) -> None:
    """Show which inputs have outlier channels, and at which noise levels.

    For example:

        vq-calib show stats

        vq-calib show stats --top 10
    """
    from vq_calib.show import show

    show(options.stats, every_group=options.groups, top=options.top, as_json=options.as_json)


def main() -> None:
    """Entry point of the `vq-calib` command."""
    run(app)
