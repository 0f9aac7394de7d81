"""`vq-algos`: smooth and quantize a model offline, from its weights and activation statistics."""

from typing import Annotated

import typer

from vq_core.cli.app import new_app, report, required, run, set_up_logging
from vq_core.cli.options import (
    AllowPth,
    AsJson,
    Device,
    Lora,
    ModelOrDefault,
    Output,
    Recipe,
    Resume,
    Verbose,
    Weights,
    path_argument,
    path_option,
)
from vq_core.remote.location import Location

app = new_app("Smooth and quantize a video diffusion transformer offline, one block at a time.")

Stats = Annotated[Location | None, path_option("--stats", help="Activation statistics from `vq-calib collect`.")]
SmoothMethod = Annotated[
    str | None,
    typer.Option("--method", help="auto, smoothquant, awq, noise or none.  [default: smoothquant]", show_default=False),
]
AwqVersion = Annotated[
    str | None, typer.Option("--awq-version", help="Scales of awq: v1 or v2.  [default: v2]", show_default=False)
]
SchemeToTry = Annotated[
    str | None,
    typer.Option(
        "--scheme", help="int8 or fp8: what auto and awq try, and what the report is about.", show_default=False
    ),
]
Alpha = Annotated[
    float | None,
    typer.Option(
        "--alpha",
        help="How much of the difficulty moves into the weights, 0 to 1.  [default: 0.75]",
        show_default=False,
    ),
]
Groups = Annotated[
    str | None,
    typer.Option(
        "--groups",
        help="all: every exact fold; llmc: LLMC's three per block; folded: what ComfyUI can hold.  [default: all]",
        show_default=False,
    ),
]
FoldedDtype = Annotated[
    str | None, typer.Option("--dtype", help="Of folded weights: fp32 or bf16.  [default: fp32]", show_default=False)
]
Scheme = Annotated[str | None, typer.Option("--scheme", help="int8 or fp8.", show_default=False)]
RoundMethod = Annotated[
    str | None, typer.Option("--method", help="rtn, clip, gptq or auto.  [default: rtn]", show_default=False)
]
TokenStats = Annotated[
    Location | None,
    path_option("--stats", help="Activation statistics with sampled tokens, to solve on and to judge by."),
]
BiasCorrection = Annotated[
    bool,
    typer.Option("--bias-correction/--no-bias-correction", help="With --stats, correct biases where it pays."),
]
RoundingOption = Annotated[
    str | None,
    typer.Option(
        "--rounding", help="nearest-even, or qtorch for LLMC's FP8 codes.  [default: nearest-even]", show_default=False
    ),
]
ArtifactFolder = Annotated[Location, path_argument(help="Smoothed weights or quant params.")]
HeatMap = Annotated[
    Location | None, path_option("--heat-map", help="Also write a picture of blocks × linears to this PNG.")
]
Top = Annotated[int, typer.Option("--top", min=1, help="How many linears to show.")]
ShowAll = Annotated[bool, typer.Option("--all", help="A row per group or linear, not per place in the block.")]


@app.command("smooth")
def smooth_command(
    model: ModelOrDefault = None,
    lora: Lora = None,
    allow_pth: AllowPth = False,
    stats: Stats = None,
    output: Output = None,
    method: SmoothMethod = None,
    scheme: SchemeToTry = None,
    alpha: Alpha = None,
    awq_version: AwqVersion = None,
    groups: Groups = None,
    dtype: FoldedDtype = None,
    device: Device = None,
    recipe: Recipe = None,
    resume: Resume = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Move the difficulty of quantization from activations into weights, exactly.

    Writes the folded weights of every transformer. Needs no GPU, and memory for two blocks whatever the model's size.

    For example:

        vq-algos smooth --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --stats stats -o smoothed

        vq-algos smooth --model MODEL --stats stats -o smoothed --method auto --scheme int8

        vq-algos smooth --model MODEL --stats stats -o smoothed --alpha 0.5 --groups llmc

        vq-algos smooth --model MODEL -o plain --method none
    """
    from vq_algos.next_steps import after_smoothing
    from vq_algos.show import smoothing_rows
    from vq_algos.smoothing.smooth import SmoothSettings, smooth
    from vq_algos.smoothing.smoothers import smoother_named
    from vq_core.artifacts.stats import open_stats
    from vq_core.artifacts.weights import open_weights
    from vq_core.model.embedded import model_or_default
    from vq_core.model.source import open_source
    from vq_core.recipes.recipe import DEFAULTS, loras_of, read_recipe, resolve
    from vq_core.runtime.device import resolve_device
    from vq_core.runtime.meter import Meter

    set_up_logging(verbose)
    meter = Meter()
    said = read_recipe(recipe)
    settings = SmoothSettings(
        method=resolve(method, said.smooth.method, DEFAULTS.smooth_method),
        scheme=scheme or said.scheme,
        awq_version=resolve(awq_version, said.smooth.awq_version, DEFAULTS.awq_version),
        alpha=resolve(alpha, said.smooth.alpha, DEFAULTS.alpha),
        groups=resolve(groups, said.smooth.groups, DEFAULTS.groups),
        dtype=resolve(dtype, said.smooth.dtype, DEFAULTS.folded_dtype),
    )
    needs_stats = "statistics" in smoother_named(settings.method).NEEDS
    stats_path = (stats or said.path_of("activation-stats")) if needs_stats else None
    folder = required(output or said.path_of("smoothed-weights"), "--output")
    source = open_source(model_or_default(model or said.model), loras_of(lora, said), allow_pth=allow_pth)
    smooth(
        source,
        open_stats(stats_path) if stats_path else None,
        settings,
        folder,
        device=resolve_device(device),
        resume=resume,
    )
    rows = smoothing_rows(open_weights(folder))
    report(
        f"Smoothed {source.name}",
        {**rows, "output": folder, **meter.usage().rows()},
        result={"output": folder, "settings": vars(settings), "usage": vars(meter.usage())},
        as_json=as_json,
        next_steps=after_smoothing(settings, folder, stats_path, recipe, said),
    )


@app.command("quantize")
def quantize_command(
    weights: Weights = None,
    scheme: Scheme = None,
    output: Output = None,
    stats: TokenStats = None,
    method: RoundMethod = None,
    rounding: RoundingOption = None,
    bias_correction: BiasCorrection = True,
    device: Device = None,
    recipe: Recipe = None,
    resume: Resume = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Round the weights to 8-bit codes, one scale per output channel.

    rtn rounds to nearest. clip searches each row's scale, gptq makes up for each column's error in the columns after
    it, and auto takes whatever is best for each linear on held-out tokens, never worse than rtn there; these three
    solve on sampled tokens (vq-calib collect --tokens). With --stats every linear's output error is recorded.

    For example:

        vq-algos quantize --weights smoothed --scheme int8 -o qparams

        vq-algos quantize --weights smoothed --stats stats --scheme int8 -o qparams --method auto

        vq-algos quantize --weights smoothed --scheme fp8 -o qparams --rounding qtorch
    """
    from vq_algos.rounding.quantize import QuantizeSettings, quantize
    from vq_algos.rounding.rounders import rounder_named
    from vq_algos.show import rounding_rows
    from vq_core.artifacts.qparams import open_qparams
    from vq_core.artifacts.stats import open_stats
    from vq_core.artifacts.weights import open_weights
    from vq_core.recipes.recipe import DEFAULTS, read_recipe, resolve
    from vq_core.runtime.device import resolve_device
    from vq_core.runtime.meter import Meter

    set_up_logging(verbose)
    meter = Meter()
    said = read_recipe(recipe)
    settings = QuantizeSettings(
        scheme=required(scheme or said.scheme, "--scheme"),
        method=resolve(method, said.quantize.method, DEFAULTS.quantize_method),
        rounding=resolve(rounding, said.quantize.rounding, DEFAULTS.rounding),
        bias_correction=bias_correction,
    )
    needs_tokens = rounder_named(settings.method).NEEDS_TOKENS
    stats_path = stats or (said.path_of("activation-stats") if needs_tokens else None)
    folder = required(output or said.path_of("quant-params"), "--output")
    smoothed = required(weights or said.path_of("smoothed-weights"), "--weights")
    quantize(
        open_weights(smoothed),
        settings,
        folder,
        stats=open_stats(stats_path) if stats_path else None,
        device=resolve_device(device),
        resume=resume,
    )
    checkpoint = said.path_of("lightx2v") or "checkpoint"
    report(
        f"Quantized {smoothed} to {settings.scheme}",
        {**rounding_rows(open_qparams(folder)), "output": folder, **meter.usage().rows()},
        result={"output": folder, "settings": vars(settings), "usage": vars(meter.usage())},
        as_json=as_json,
        next_steps=f"vq-export lightx2v --weights {smoothed} --qparams {folder} -o {checkpoint}",
    )


@app.command("show")
def show_command(
    artifact: ArtifactFolder, every: ShowAll = False, heat_map: HeatMap = None, as_json: AsJson = False
) -> None:
    """Show what was decided for each group or linear, and what it gained on held-out tokens.

    For example:

        vq-algos show smoothed

        vq-algos show qparams --all

        vq-algos show qparams --heat-map qparams.png
    """
    from vq_algos.sensitivity.heat_map import draw_heat_map
    from vq_algos.show import show

    if heat_map is not None:
        draw_heat_map(artifact, heat_map)
    show(artifact, every=every, as_json=as_json)


@app.command("sensitivity")
def sensitivity_command(
    weights: Weights = None,
    stats: TokenStats = None,
    top: Top = 20,
    device: Device = None,
    recipe: Recipe = None,
    as_json: AsJson = False,
) -> None:
    """Show which linears cost most when they are rounded, in INT8 and in FP8, each for itself.

    For example:

        vq-algos sensitivity --weights smoothed --stats stats

        vq-algos sensitivity --weights smoothed --stats stats --top 100 --json
    """
    from vq_algos.sensitivity.measure import costs
    from vq_algos.sensitivity.report import report_costs
    from vq_core.artifacts.stats import open_stats
    from vq_core.artifacts.weights import open_weights
    from vq_core.recipes.recipe import read_recipe
    from vq_core.runtime.device import resolve_device

    said = read_recipe(recipe)
    smoothed = open_weights(required(weights or said.path_of("smoothed-weights"), "--weights"))
    statistics = open_stats(required(stats or said.path_of("activation-stats"), "--stats"))
    report_costs(costs(smoothed, statistics, resolve_device(device)), top=top, as_json=as_json)


def main() -> None:
    """Entry point of the `vq-algos` command."""
    run(app)
