"""`vq-export`: write quantized checkpoints for runtimes, and verify them cold."""

from pathlib import Path
from typing import Annotated

import typer

from vq_core.cli import AsJson, Device, Model, Output, Recipe, Resume, Verbose, new_app, report, required, run, set_up_logging

app = new_app("Write quantized checkpoints in the layouts that runtimes load, and verify them.")

Weights = Annotated[
    Path | None, typer.Option("--weights", help="Smoothed weights from `vq-algos smooth`.", show_default=False)
]
QParams = Annotated[
    Path | None, typer.Option("--qparams", help="Quant params from `vq-algos quantize`.", show_default=False)
]
Scheme = Annotated[
    str | None, typer.Option("--scheme", help="int8 or fp8; with --model, for conversion only.", show_default=False)
]
RoundingOption = Annotated[
    str | None,
    typer.Option("--rounding", help="With --model: nearest-even or qtorch.  [default: nearest-even]", show_default=False),
]
CheckpointFolder = Annotated[Path, typer.Argument(help="A checkpoint written by `vq-export lightx2v`.")]

LIGHTX2V_HELP = """Write the checkpoint that LightX2V loads, with run configs and a script beside it.

From smoothed weights and quant params, or straight from a model (round to nearest, no calibration).

Examples:

    vq-export lightx2v --weights smoothed --qparams qparams -o checkpoint

    vq-export lightx2v --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --scheme fp8 -o checkpoint
"""
VERIFY_HELP = """Re-read a checkpoint and check everything that LightX2V will rely on.

With --model, also compare every linear with the weight it was rounded from. Exits with 1 if anything is wrong.

Examples:

    vq-export verify checkpoint

    vq-export verify checkpoint --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers
"""


@app.command("lightx2v", help=LIGHTX2V_HELP)
def lightx2v_command(
    weights: Weights = None,
    qparams: QParams = None,
    model: Model = None,
    scheme: Scheme = None,
    rounding: RoundingOption = None,
    output: Output = None,
    device: Device = None,
    recipe: Recipe = None,
    resume: Resume = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    from vq_core.device import resolve_device
    from vq_core.meter import Meter
    from vq_core.recipe import DEFAULTS, read_recipe, resolve
    from vq_export.export import Inputs, checkpoint_rows, open_model
    from vq_export.targets import lightx2v

    set_up_logging(verbose)
    meter = Meter()
    said = read_recipe(recipe)
    if model is None:  # a recipe's model was already smoothed, and its artifacts lie where the recipe says
        weights, qparams = weights or said.path_of("smoothed-weights"), qparams or said.path_of("quant-params")
    inputs = Inputs(weights, qparams, model, scheme or said.scheme)
    folder = required(output or said.path_of("lightx2v"), "--output")
    quantized = open_model(
        inputs, resolve(rounding, said.quantize.rounding, DEFAULTS.rounding), resolve_device(device or "cpu")
    )
    lightx2v.export(quantized, folder, resume=resume)
    report(
        f"Wrote {folder}",
        {**checkpoint_rows(folder), **meter.usage().rows()},
        result={"output": folder, **checkpoint_rows(folder), "usage": vars(meter.usage())},
        as_json=as_json,
        next_steps=f"vq-export verify {folder} --model {quantized.model}",
    )


@app.command("verify", help=VERIFY_HELP)
def verify_command(
    checkpoint: CheckpointFolder,
    model: Model = None,
    device: Device = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    from vq_core.artifacts.checkpoint import open_checkpoint
    from vq_core.device import resolve_device
    from vq_core.meter import Meter
    from vq_core.source import open_source
    from vq_export.verify import enforce, verify, verification_rows

    set_up_logging(verbose)
    meter = Meter()
    found = verify(
        open_checkpoint(checkpoint), open_source(model) if model else None, device=resolve_device(device or "cpu")
    )
    report(
        f"Verified {checkpoint}",
        {**verification_rows(found), **meter.usage().rows()},
        result={**vars(found), "usage": vars(meter.usage())},
        as_json=as_json,
    )
    enforce(found, checkpoint)


def main() -> None:
    """Entry point of the `vq-export` command."""
    run(app)
