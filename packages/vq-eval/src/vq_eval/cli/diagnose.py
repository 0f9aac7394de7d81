"""`vq-eval trajectory` and `vq-eval layers`: where and when a candidate departs from full precision."""

from vq_core.cli.app import report, required, set_up_logging
from vq_core.cli.command import takes_options
from vq_core.remote.location import Location
from vq_eval.cli.options import LayersOptions, TrajectoryOptions


@takes_options(TrajectoryOptions)
def trajectory_command(options: TrajectoryOptions) -> None:
    """Measure how the latents of candidates drift from full precision over the steps.

    Teacher-forced, every step starts from full precision's latent: what it adds is that step's own error. Free-running,
    the candidate samples alone: errors accumulate. One full-precision pass serves all candidates, and each finds
    its weights among those given. Writes `trajectory.json` and `trajectory.png` into a new folder.

    For example:

        vq-eval trajectory --model MODEL --weights smoothed --qparams qparams --prompts prompts -o drift

        vq-eval trajectory --weights plain --qparams rtn=q1 --weights smoothed --qparams int8=q2 --qparams fp8=q3
        --prompts prompts -o drift
    """
    from vq_core.cli.sampling import resolve_sampling
    from vq_core.model.embedded import model_or_default
    from vq_core.recipes.recipe import loras_of, read_recipe
    from vq_core.runtime.meter import Meter
    from vq_core.sampling.model_defaults import defaults_of
    from vq_eval.trajectories.measure import measure_trajectories
    from vq_eval.trajectories.table import print_trajectories, rows_of
    from vq_eval.videos.candidates import artifacts_of, open_named

    set_up_logging(options.verbose)
    meter = Meter()
    said = read_recipe(options.recipe)
    name = model_or_default(options.model or said.model)
    samples = required(options.prompts or said.eval.prompts, "--prompts")
    folder: Location = required(options.output, "--output")
    measured = measure_trajectories(
        name,
        open_named(*artifacts_of(options.weights, options.qparams, said)),
        samples,
        resolve_sampling(options, said.eval, defaults_of(name), seed=said.seed),
        folder,
        floor=options.floor,
        loras=loras_of(options.lora, said),
        device=options.device,
        resume=options.resume,
    )
    if not options.as_json:
        print_trajectories(measured)
    report(
        f"Drift from {name}",
        {"report": str(folder), **meter.usage().rows()},
        result={"candidates": rows_of(measured), "output": str(folder), "usage": vars(meter.usage())},
        as_json=options.as_json,
    )


@takes_options(LayersOptions)
def layers_command(options: LayersOptions) -> None:
    """Measure the output SNR of every linear and block in place, and name what costs most or is likely broken.

    The model and its quantized twin run side by side on real activations. A linear's own error is that on full
    precision's input; in place, it has what the places before it did, too. Writes `layers.json`, `layers.md` and a heat
    map into a new folder.

    For example:

        vq-eval layers --model MODEL --weights smoothed --qparams qparams --prompts prompts -o layers

        vq-eval layers --recipe recipe.yaml -o layers --sensitivity 1,2,4,8

        vq-eval layers --recipe recipe.yaml -o layers --sensitivity 5 --sensitivity-of blocks
    """
    from vq_core.cli.sampling import resolve_sampling
    from vq_core.model.embedded import model_or_default
    from vq_core.recipes.recipe import loras_of, read_recipe
    from vq_core.remote.location import NamedPath
    from vq_core.runtime.meter import Meter
    from vq_core.sampling.model_defaults import defaults_of
    from vq_eval.layers.markdown import print_layers
    from vq_eval.layers.measure import measure_layers
    from vq_eval.layers.sensitivity import parse_request
    from vq_eval.videos.candidates import open_named

    set_up_logging(options.verbose)
    meter = Meter()
    said = read_recipe(options.recipe)
    name = model_or_default(options.model or said.model)
    samples = required(options.prompts or said.eval.prompts, "--prompts")
    folder: Location = required(options.output, "--output")
    smoothed = required(options.weights or said.path_of("smoothed-weights"), "--weights")
    quantized = required(options.qparams or said.path_of("quant-params"), "--qparams")
    (candidate,) = open_named([smoothed], [NamedPath("candidate", quantized)])
    measured = measure_layers(
        name,
        candidate,
        samples,
        resolve_sampling(options, said.eval, defaults_of(name), seed=said.seed),
        folder,
        sensitivity=parse_request(options.sensitivity, options.sensitivity_of),
        loras=loras_of(options.lora, said),
        device=options.device,
        resume=options.resume,
    )
    if not options.as_json:
        print_layers(measured)
    report(
        f"Layers of {quantized}",
        {"report": str(folder), **meter.usage().rows()},
        result={**measured.without_cells(), "output": str(folder), "usage": vars(meter.usage())},
        as_json=options.as_json,
    )
