"""`vq-eval trajectory` and `vq-eval layers`: where and when a candidate departs from full precision."""

from typing import Annotated

import typer

from vq_core.cli.app import report, required, set_up_logging
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
    QParams,
    Recipe,
    Resume,
    Seed,
    Steps,
    Verbose,
    Weights,
    Width,
    path_option,
)
from vq_core.remote.location import Location

WeightsOfAll = Annotated[
    list[Location] | None,
    path_option("--weights", help="Smoothed weights that the candidates were made from; repeatable."),
]
NamedQParams = Annotated[
    list[str] | None,
    typer.Option(
        "--qparams",
        metavar="[NAME=]PATH|URI",
        help="A candidate: quant params from `vq-algos quantize`; repeatable.",
        show_default=False,
    ),
]
Floor = Annotated[
    bool, typer.Option("--floor/--no-floor", help="Measure full precision with another attention kernel, too.")
]
SensitivityOption = Annotated[
    str | None,
    typer.Option(
        "--sensitivity",
        metavar="K|K,K,…",
        help="Sample again with the worst 1 to K in full precision, or those of a list.",
        show_default=False,
    ),
]
SensitivityUnit = Annotated[
    str, typer.Option("--sensitivity-of", metavar="linears|blocks", help="What --sensitivity leaves out.")
]


def trajectory_command(
    model: ModelOrDefault = None,
    lora: Lora = None,
    weights: WeightsOfAll = None,
    qparams: NamedQParams = None,
    prompts: Prompts = None,
    output: Output = None,
    floor: Floor = True,
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
    """Measure how the latents of candidates drift from full precision over the steps.

    Teacher-forced, every step starts from full precision's latent: what it adds is that step's own error. Free-running,
    the candidate samples alone: errors accumulate. One full-precision pass serves all candidates, and each finds
    its weights among those given. Writes `trajectory.json` and `trajectory.png` into a new folder.

    For example:

        vq-eval trajectory --model MODEL --weights smoothed --qparams qparams --prompts prompts -o drift

        vq-eval trajectory --weights plain --qparams rtn=q1 --weights smoothed --qparams int8=q2 --qparams fp8=q3
        --prompts prompts -o drift
    """
    from vq_core.model.embedded import model_or_default
    from vq_core.recipes.recipe import loras_of, read_recipe
    from vq_core.runtime.meter import Meter
    from vq_core.sampling.model_defaults import defaults_of
    from vq_core.sampling.settings import SamplingOptions, resolve_sampling
    from vq_eval.trajectories.measure import measure_trajectories
    from vq_eval.trajectories.table import print_trajectories, rows_of
    from vq_eval.videos.candidates import artifacts_of, open_named

    set_up_logging(verbose)
    meter = Meter()
    said = read_recipe(recipe)
    name = model_or_default(model or said.model)
    samples = required(prompts or said.eval.prompts, "--prompts")
    folder: Location = required(output, "--output")
    asked = SamplingOptions(steps, height, width, num_frames, guidance_scale, guidance_scale_2, seed=seed)
    measured = measure_trajectories(
        name,
        open_named(*artifacts_of(weights, qparams, said)),
        samples,
        resolve_sampling(asked, said.eval, defaults_of(name), seed=said.seed),
        folder,
        floor=floor,
        loras=loras_of(lora, said),
        device=device,
        resume=resume,
    )
    if not as_json:
        print_trajectories(measured)
    report(
        f"Drift from {name}",
        {"report": str(folder), **meter.usage().rows()},
        result={"candidates": rows_of(measured), "output": str(folder), "usage": vars(meter.usage())},
        as_json=as_json,
    )


def layers_command(
    model: ModelOrDefault = None,
    lora: Lora = None,
    weights: Weights = None,
    qparams: QParams = None,
    prompts: Prompts = None,
    output: Output = None,
    sensitivity: SensitivityOption = None,
    sensitivity_of: SensitivityUnit = "linears",
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
    """Measure the output SNR of every linear and block in place, and name what costs most or is likely broken.

    The model and its quantized twin run side by side on real activations. A linear's own error is that on full
    precision's input; in place, it has what the places before it did, too. Writes `layers.json`, `layers.md` and a heat
    map into a new folder.

    For example:

        vq-eval layers --model MODEL --weights smoothed --qparams qparams --prompts prompts -o layers

        vq-eval layers --recipe recipe.yaml -o layers --sensitivity 1,2,4,8

        vq-eval layers --recipe recipe.yaml -o layers --sensitivity 5 --sensitivity-of blocks
    """
    from vq_core.model.embedded import model_or_default
    from vq_core.recipes.recipe import loras_of, read_recipe
    from vq_core.remote.location import NamedPath
    from vq_core.runtime.meter import Meter
    from vq_core.sampling.model_defaults import defaults_of
    from vq_core.sampling.settings import SamplingOptions, resolve_sampling
    from vq_eval.layers.markdown import print_layers
    from vq_eval.layers.measure import measure_layers
    from vq_eval.layers.sensitivity import parse_request
    from vq_eval.videos.candidates import open_named

    set_up_logging(verbose)
    meter = Meter()
    said = read_recipe(recipe)
    name = model_or_default(model or said.model)
    samples = required(prompts or said.eval.prompts, "--prompts")
    folder: Location = required(output, "--output")
    smoothed = required(weights or said.path_of("smoothed-weights"), "--weights")
    quantized = required(qparams or said.path_of("quant-params"), "--qparams")
    (candidate,) = open_named([smoothed], [NamedPath("candidate", quantized)])
    asked = SamplingOptions(steps, height, width, num_frames, guidance_scale, guidance_scale_2, seed=seed)
    measured = measure_layers(
        name,
        candidate,
        samples,
        resolve_sampling(asked, said.eval, defaults_of(name), seed=said.seed),
        folder,
        sensitivity=parse_request(sensitivity, sensitivity_of),
        loras=loras_of(lora, said),
        device=device,
        resume=resume,
    )
    if not as_json:
        print_layers(measured)
    report(
        f"Layers of {quantized}",
        {"report": str(folder), **meter.usage().rows()},
        result={**measured.without_cells(), "output": str(folder), "usage": vars(meter.usage())},
        as_json=as_json,
    )


def add_commands(app: typer.Typer) -> None:
    """Add both commands to `app`."""
    app.command("trajectory")(trajectory_command)
    app.command("layers")(layers_command)
