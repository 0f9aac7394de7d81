"""The options of each command, one field each. This module has no heavy imports."""

from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from vq_core.cli.options import (
    METHOD,
    OUTPUT,
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
from vq_core.numerics.scheme import ROUNDING_NOTE
from vq_core.recipes.ranges import Count, Decibels, Share
from vq_core.remote.location import Location

_method = partial(typer.Option, rich_help_panel=METHOD)


TokenStats = Annotated[
    Location | None,
    path_option("--stats", help="Activation statistics with sampled tokens, to fit to and to judge by."),
]


@dataclass(frozen=True, kw_only=True)
class SmoothOptions:
    """Options of `vq-algos smooth`."""

    model: ModelOrDefault = None
    lora: Lora = None
    allow_pth: AllowPth = False
    stats: Annotated[Location | None, path_option("--stats", help="Activation statistics from `vq-calib collect`.")] = (
        None
    )
    recipe: Recipe = None
    output: Output = None
    resume: Resume = False
    method: Annotated[
        str | None, _method("--method", help="auto, smoothquant, awq, noise or none.  [default: smoothquant]")
    ] = None
    scheme: Annotated[
        str | None,
        _method(
            "--scheme",
            help="int8 or fp8: the scheme that auto and awq optimize and that the report shows; int8 also for w6a8 and "
            "w4a8, of which tokens are the same; of several the first.",
        ),
    ] = None
    alpha: Annotated[
        Share | None,
        _method("--alpha", help="How much of the difficulty moves into the weights, 0 to 1.  [default: 0.75]"),
    ] = None
    awq_version: Annotated[str | None, _method("--awq-version", help="Scales of awq: v1 or v2.  [default: v2]")] = None
    groups: Annotated[
        str | None,
        _method(
            "--groups",
            help="all: every exact fold; llmc: LLMC's three per block.  [default: all]",
        ),
    ] = None
    target: Annotated[
        str | None,
        _method(
            "--target",
            help="Runtime to smooth for: lightx2v; comfyui, which has no gains of norms; or native, vq-infer.  "
            "[default: lightx2v]",
        ),
    ] = None
    dtype: Annotated[
        str | None, _method("--dtype", help="Data type of folded weights: fp32 or bf16.  [default: fp32]")
    ] = None
    device: Device = None
    as_json: AsJson = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Options of `vq-algos quantize`."""

    weights: Weights = None
    stats: TokenStats = None
    recipe: Recipe = None
    output: Output = None
    resume: Resume = False
    scheme: Annotated[
        str | None,
        _method(
            "--scheme",
            help="int8 or fp8; for a target that can, w6a8 or w4a8: weights of 6 or 4 bits in groups, rotated, for "
            "INT8 products; or several, w4a8+int8: the fewest bits that reach --min-snr, then the least error.",
        ),
    ] = None
    method: Annotated[str | None, _method("--method", help="rtn, clip, gptq or auto.  [default: rtn]")] = None
    rounding: Annotated[
        str | None,
        _method("--rounding", help=f"nearest-even, or qtorch ({ROUNDING_NOTE}).  [default: nearest-even]"),
    ] = None
    rotate: Annotated[
        str | None,
        _method(
            "--rotate",
            help="Inputs to rotate for a target that can: none, all, or auto, where the error on held-out tokens is "
            "smaller then.  [default: auto with --method auto, else none]",
        ),
    ] = None
    center: Annotated[
        bool | None,
        typer.Option(
            "--center/--no-center",
            help="With --stats, let a linear read its input less the mean, exactly, where that lowers the held-out "
            "error.  [default: center with --method auto]",
            rich_help_panel=METHOD,
        ),
    ] = None
    bias_correction: Annotated[
        bool,
        _method(
            "--bias-correction/--no-bias-correction",
            help="With --stats, correct biases if that lowers the held-out error.",
        ),
    ] = True
    keep: Annotated[
        list[str] | None,
        _method(
            "--keep",
            help="Linears to leave in full precision, for a target that can, with those that read the same input: "
            "0,38-39 or ffn.net.2 or 0,38-39:ffn.net.2; repeatable.",
        ),
    ] = None
    keep_size: Annotated[
        str | None,
        _method(
            "--keep-size",
            help="With --stats, also keep the linears with the largest errors, until the checkpoint is that much "
            "larger: 500MB, 2GiB.",
        ),
    ] = None
    min_snr: Annotated[
        Decibels | None,
        _method(
            "--min-snr",
            help="With --stats, also keep linears whose output SNR is below this, in dB; with --keep-size, as many as "
            "fit.",
        ),
    ] = None
    device: Device = None
    as_json: AsJson = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """Options of `vq-algos show`."""

    artifact: Annotated[Location, path_argument(help="Smoothed weights or quant params.")]
    every: Annotated[
        bool,
        typer.Option(
            "--all", help="One row per group or linear instead of one per place in the block.", rich_help_panel=OUTPUT
        ),
    ] = False
    heat_map: Annotated[
        Location | None,
        path_option("--heat-map", help="Also write a picture of blocks × linears to this PNG.", panel=OUTPUT),
    ] = None
    as_json: AsJson = False


@dataclass(frozen=True, kw_only=True)
class SensitivityOptions:
    """Options of `vq-algos sensitivity`."""

    weights: Weights = None
    stats: TokenStats = None
    recipe: Recipe = None
    top: Annotated[Count, typer.Option("--top", help="How many linears to show.", rich_help_panel=OUTPUT)] = 20
    device: Device = None
    as_json: AsJson = False
