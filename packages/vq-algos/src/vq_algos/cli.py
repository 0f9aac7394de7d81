"""`vq-algos`: smooth and quantize a model offline, from its weights and activation statistics."""

from vq_algos.options import QuantizeOptions, SensitivityOptions, ShowOptions, SmoothOptions
from vq_core.cli.app import new_app, report, required, run, set_up_logging
from vq_core.cli.command import takes_options

app = new_app("Smooth and quantize a video diffusion transformer offline, one block at a time.")


@app.command("smooth")
@takes_options(SmoothOptions)
def smooth_command(options: SmoothOptions) -> None:
    """Move outlier channels from activations into weights, without changing the function of the model.

    Writes the folded weights of every transformer. Needs no GPU, and memory for only two blocks, whatever the size of
    the model.

    For example:

        vq-algos smooth --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --stats stats -o smoothed

        vq-algos smooth --model MODEL --stats stats -o smoothed --method auto --scheme int8

        vq-algos smooth --model MODEL --stats stats -o smoothed --method auto --scheme int8 --target comfyui

        vq-algos smooth --model MODEL --stats stats -o smoothed --alpha 0.5 --groups llmc

        vq-algos smooth --model MODEL -o plain --method none
    """
    from vq_algos.next_steps import after_smoothing
    from vq_algos.show import smoothing_rows
    from vq_algos.smoothing.smooth import SmoothSettings, smooth
    from vq_algos.smoothing.smoothers import smoother_named
    from vq_core.artifacts.model_choice import chosen_model
    from vq_core.artifacts.stats import open_stats
    from vq_core.artifacts.weights import open_weights
    from vq_core.model.source import open_source
    from vq_core.recipes.recipe import DEFAULTS, loras_of, read_recipe, resolve
    from vq_core.runtime.device import resolve_device
    from vq_core.runtime.meter import Meter

    set_up_logging(options.verbose)
    meter = Meter()
    said = read_recipe(options.recipe)
    settings = SmoothSettings(
        method=resolve(options.method, said.smooth.method, DEFAULTS.smooth_method),
        scheme=options.scheme or said.scheme,
        awq_version=resolve(options.awq_version, said.smooth.awq_version, DEFAULTS.awq_version),
        alpha=resolve(options.alpha, said.smooth.alpha, DEFAULTS.alpha),
        groups=resolve(options.groups, said.smooth.groups, DEFAULTS.groups),
        target=resolve(options.target, said.smooth.target, DEFAULTS.target),
        dtype=resolve(options.dtype, said.smooth.dtype, DEFAULTS.folded_dtype),
    )
    needs_stats = "statistics" in smoother_named(settings.method).NEEDS
    stats_path = (options.stats or said.path_of("activation-stats")) if needs_stats else None
    folder = required(options.output or said.path_of("smoothed-weights"), "--output")
    model = chosen_model(options.model or said.model, [options.stats], [stats_path])
    source = open_source(model.name, loras_of(options.lora, said), allow_pth=options.allow_pth)
    smooth(
        source,
        open_stats(stats_path) if stats_path else None,
        settings,
        folder,
        device=resolve_device(options.device),
        resume=options.resume,
    )
    rows = smoothing_rows(open_weights(folder))
    report(
        f"Smoothed {source.name}",
        {**rows, "output": folder, **meter.usage().rows()},
        result={"output": folder, "settings": vars(settings), "usage": vars(meter.usage())},
        as_json=options.as_json,
        next_steps=after_smoothing(settings, folder, stats_path, options.recipe, said),
        note=model.note,
    )


@app.command("quantize")
@takes_options(QuantizeOptions)
def quantize_command(options: QuantizeOptions) -> None:
    """Round the weights to 8-bit codes, one scale per output channel.

    rtn rounds to nearest. clip searches each row's scale, gptq makes up for each column's error in the columns after
    it, and auto takes whatever is best for each linear on held-out tokens, never worse than rtn there; these three
    solve on sampled tokens (vq-calib collect --tokens). With --stats every linear's output error is recorded. auto
    also tries to subtract the mean of what a linear reads and, for a target that can, to rotate it. --keep leaves
    linears in full precision, --keep-size and --min-snr those that lose most. Several schemes, joined by +, are tried
    for each input.

    For example:

        vq-algos quantize --weights smoothed --scheme int8 -o qparams

        vq-algos quantize --weights smoothed --stats stats --scheme int8 -o qparams --method auto

        vq-algos quantize --weights smoothed --stats stats --scheme int8 -o qparams --method auto --keep-size 500MB

        vq-algos quantize --weights smoothed --stats stats --scheme w4a8+int8 --min-snr 30 -o qparams --method auto

        vq-algos quantize --weights smoothed --scheme fp8 -o qparams --rounding qtorch
    """
    from vq_algos.rounding.quantize import quantize
    from vq_algos.rounding.quantize_settings import QuantizeSettings, default_rotate
    from vq_algos.rounding.rounders import rounder_named
    from vq_algos.show import rounding_rows
    from vq_algos.smoothed_for import target_of, warning_of
    from vq_core.artifacts.qparams import open_qparams
    from vq_core.artifacts.stats import open_stats
    from vq_core.artifacts.weights import open_weights
    from vq_core.recipes.ranges import parse_size
    from vq_core.recipes.recipe import DEFAULTS, Recipe, ignored_of, read_recipe, resolve
    from vq_core.runtime.device import resolve_device
    from vq_core.runtime.meter import Meter
    from vq_core.targets import target_named

    set_up_logging(options.verbose)
    meter = Meter()
    said = read_recipe(options.recipe)
    scheme = required(options.scheme or said.scheme, "--scheme")
    smoothed = required(options.weights or said.path_of("smoothed-weights"), "--weights")
    weights = open_weights(smoothed)
    target = target_named(target_of(weights))
    method = resolve(options.method, said.quantize.method, DEFAULTS.quantize_method)
    settings = QuantizeSettings(
        scheme=scheme,
        method=method,
        rounding=resolve(options.rounding, said.quantize.rounding, DEFAULTS.rounding),
        rotate=resolve(options.rotate, said.quantize.rotate, default_rotate(method, target, scheme)),
        bias_correction=options.bias_correction,
        center=method == "auto" if options.center is None else options.center,
        keep=tuple(map(str, ignored_of(options.keep, said if target.mixed else Recipe(), "--keep"))),
        keep_size=parse_size(resolve(options.keep_size, said.quantize.keep_size, None), "--keep-size"),
        min_snr=resolve(options.min_snr, said.quantize.min_snr, None),
    )
    needs_tokens = rounder_named(settings.method).NEEDS_TOKENS
    stats_path = options.stats or (said.path_of("activation-stats") if needs_tokens else None)
    folder = required(options.output or said.path_of("quant-params"), "--output")
    quantize(
        weights,
        settings,
        folder,
        stats=open_stats(stats_path) if stats_path else None,
        device=resolve_device(options.device),
        resume=options.resume,
    )
    checkpoint = said.path_of("lightx2v") or "checkpoint"
    warning = warning_of(weights, settings.scheme)
    warned = {} if warning is None else {"warning": warning}
    report(
        f"Quantized {smoothed} to {settings.scheme}",
        {**warned, **rounding_rows(open_qparams(folder)), "output": folder, **meter.usage().rows()},
        result={"output": folder, "settings": vars(settings), **warned, "usage": vars(meter.usage())},
        as_json=options.as_json,
        next_steps=f"vq-export {target.name} --weights {smoothed} --qparams {folder} -o {checkpoint}",
    )


@app.command("show")
@takes_options(ShowOptions)
def show_command(options: ShowOptions) -> None:
    """Show what was decided for each group or linear, and what it gained on held-out tokens.

    For example:

        vq-algos show smoothed

        vq-algos show qparams --all

        vq-algos show qparams --heat-map qparams.png
    """
    from vq_algos.sensitivity.heat_map import draw_heat_map
    from vq_algos.show import show

    if options.heat_map is not None:
        draw_heat_map(options.artifact, options.heat_map)
    show(options.artifact, every=options.every, as_json=options.as_json)


@app.command("sensitivity")
@takes_options(SensitivityOptions)
def sensitivity_command(options: SensitivityOptions) -> None:
    """Show which linears lose most when each alone is rounded, in INT8 and in FP8.

    For example:

        vq-algos sensitivity --weights smoothed --stats stats

        vq-algos sensitivity --weights smoothed --stats stats --top 100 --json
    """
    from vq_algos.sensitivity.measure import costs, report_costs
    from vq_core.artifacts.stats import open_stats
    from vq_core.artifacts.weights import open_weights
    from vq_core.recipes.recipe import read_recipe
    from vq_core.runtime.device import resolve_device

    said = read_recipe(options.recipe)
    smoothed = open_weights(required(options.weights or said.path_of("smoothed-weights"), "--weights"))
    statistics = open_stats(required(options.stats or said.path_of("activation-stats"), "--stats"))
    report_costs(costs(smoothed, statistics, resolve_device(options.device)), top=options.top, as_json=options.as_json)


def main() -> None:
    """Entry point of the `vq-algos` command."""
    run(app)
