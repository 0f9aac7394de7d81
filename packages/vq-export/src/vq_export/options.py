"""The options of each command, one a field; free of heavy imports."""

from dataclasses import dataclass
from typing import Annotated

import typer

from vq_core.cli.options import (
    METHOD,
    OUTPUT,
    VERIFICATION,
    AllowPth,
    AsJson,
    Device,
    Lora,
    Model,
    Output,
    QParams,
    Recipe,
    Resume,
    Verbose,
    Weights,
    path_argument,
    path_option,
)
from vq_core.numerics.scheme import ROUNDING_NOTE
from vq_core.remote.location import Location

Scheme = Annotated[
    str | None,
    typer.Option("--scheme", help="int8 or fp8; with --model, for conversion only.", rich_help_panel=METHOD),
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail on warnings too.", rich_help_panel=VERIFICATION)]


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Of every target: both artifacts, or a model to convert with LoRAs, a scheme and a rounding."""

    weights: Weights = None
    qparams: QParams = None
    model: Model = None
    lora: Lora = None
    allow_pth: AllowPth = False
    recipe: Recipe = None
    output: Output = None
    resume: Resume = False
    scheme: Scheme = None
    rounding: Annotated[
        str | None,
        typer.Option(
            "--rounding",
            help=f"With --model: nearest-even, or qtorch ({ROUNDING_NOTE}).  [default: nearest-even]",
            rich_help_panel=METHOD,
        ),
    ] = None
    verify: Annotated[
        bool,
        typer.Option(
            "--verify/--no-verify",
            help="Read back what was written before it gets its name.",
            rich_help_panel=VERIFICATION,
        ),
    ] = True
    strict: Strict = False
    device: Device = None
    as_json: AsJson = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class DiffusersOptions:
    """Of `vq-export diffusers`: a model, a checkpoint, smoothed weights, or these with quant params."""

    model: Model = None
    checkpoint: Annotated[
        Location | None, path_option("--checkpoint", help="Checkpoint written by `vq-export lightx2v` or `comfyui`.")
    ] = None
    weights: Weights = None
    qparams: QParams = None
    lora: Lora = None
    allow_pth: AllowPth = False
    output: Output = None
    resume: Resume = False
    dtype: Annotated[
        str,
        typer.Option(
            "--dtype",
            help="Data type of dequantized or unsmoothed tensors: fp32 (exact) or bf16.",
            rich_help_panel=METHOD,
        ),
    ] = "fp32"
    as_json: AsJson = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class EncodersOptions:
    """Of `vq-export encoders`."""

    model: Model = None
    t5: Annotated[
        Location | None, path_option("--t5", help="The original text encoder's file, .pth or safetensors.")
    ] = None
    clip: Annotated[
        Location | None, path_option("--clip", help="The original image encoder's file, .pth or safetensors.")
    ] = None
    output: Output = None
    resume: Resume = False
    pth: Annotated[
        bool,
        typer.Option(
            "--pth",
            help="Write .pth files, which LightX2V finds by itself, instead of safetensors.",
            rich_help_panel=OUTPUT,
        ),
    ] = False
    scheme: Scheme = None
    device: Device = None
    as_json: AsJson = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """Of `vq-export verify`."""

    checkpoint: Annotated[Location, path_argument(help="A checkpoint written by `vq-export lightx2v` or `comfyui`.")]
    model: Model = None
    lora: Lora = None
    allow_pth: AllowPth = False
    strict: Strict = False
    device: Device = None
    as_json: AsJson = False
    verbose: Verbose = False


@dataclass(frozen=True, kw_only=True)
class ShowOptions:
    """Of `vq-export show`."""

    checkpoint: Annotated[
        Location, path_argument(help="A checkpoint written by vq-export, or one safetensors file of it.")
    ]
    as_json: AsJson = False
