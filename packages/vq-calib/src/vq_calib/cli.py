"""`vq-calib`: run a model over prompts and gather what its linears read."""

from pathlib import Path
from typing import Annotated

import typer

from vq_core.cli import new_app, report, required, run, set_up_logging
from vq_core.options import (
    AsJson,
    Device,
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
)

app = new_app("Run a video diffusion model over prompts and gather what its linears read.")

StatsFolder = Annotated[Path, typer.Argument(help="Statistics from `vq-calib collect`.")]
EveryGroup = Annotated[bool, typer.Option("--groups", help="A row per group, not per place in the block.")]
Top = Annotated[
    int | None, typer.Option("--top", min=1, help="Only the N groups with the largest ratio.", show_default=False)
]


@app.command("collect")
def collect_command(
    model: ModelOrDefault = None,
    prompts: Prompts = None,
    output: Output = None,
    steps: Steps = None,
    height: Height = None,
    width: Width = None,
    num_frames: NumFrames = None,
    guidance_scale: GuidanceScale = None,
    guidance_scale_2: GuidanceScale2 = None,
    seed: Seed = None,
    device: Device = None,
    recipe: Recipe = None,
    resume: Resume = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Sample every prompt with the real pipeline and gather statistics of every linear's input.

    Covers the whole trajectory, both guidance branches and every transformer. Activations are never stored.

    For example:

        vq-calib collect --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --prompts prompts -o stats

        vq-calib collect --model MODEL --prompts prompts/samples.json -o stats --steps 20 --seed 7

        vq-calib collect --recipe smoothquant_w_a.yml -o stats --resume
    """
    from vq_calib.collect import collect
    from vq_core.embedded import model_or_default
    from vq_core.meter import Meter
    from vq_core.model_defaults import defaults_of
    from vq_core.pipeline import Sampling
    from vq_core.recipe import read_recipe, resolve

    set_up_logging(verbose)
    meter = Meter()
    said = read_recipe(recipe)
    name = model_or_default(model or said.model)
    samples = required(prompts or said.calib.prompts, "--prompts")
    stats = required(output or said.path_of("activation-stats"), "--output")
    defaults = defaults_of(name)
    sampling = Sampling(
        steps=resolve(steps, said.calib.steps, defaults.steps),
        height=resolve(height, said.calib.height, defaults.height),
        width=resolve(width, said.calib.width, defaults.width),
        num_frames=resolve(num_frames, said.calib.num_frames, defaults.num_frames),
        guidance_scale=resolve(guidance_scale, said.calib.guidance_scale, defaults.guidance_scale),
        guidance_scale_2=resolve(guidance_scale_2, said.calib.guidance_scale_2, None),
        seed=resolve(seed, said.calib_seed, defaults.seed),
    )
    collected = collect(
        name,
        samples,
        stats,
        sampling,
        device=device,
        resume=resume,
    )
    how = f"--recipe {recipe}" if said.output else "-o smoothed"
    report(
        f"Statistics of {name}",
        {**collected.rows(), **meter.usage().rows()},
        result={**collected.to_json(), "usage": vars(meter.usage())},
        as_json=as_json,
        next_steps=f"vq-algos smooth --model {name} --stats {collected.output} {how}",
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
