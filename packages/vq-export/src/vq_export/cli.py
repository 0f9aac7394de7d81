"""`vq-export`: write quantized checkpoints for runtimes, and verify them cold."""

import inspect
from typing import Annotated

import typer

from vq_core.cli.app import new_app, report, required, run, set_up_logging
from vq_core.cli.options import (
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
from vq_core.remote.location import Location
from vq_export.targets import target_names, target_summary

app = new_app("Write quantized checkpoints in the layouts that runtimes load, and verify them.")

Scheme = Annotated[
    str | None, typer.Option("--scheme", help="int8 or fp8; with --model, for conversion only.", show_default=False)
]
RoundingOption = Annotated[
    str | None,
    typer.Option(
        "--rounding",
        help="With --model: nearest-even, or qtorch for LLMC's FP8 codes.  [default: nearest-even]",
        show_default=False,
    ),
]
Verify = Annotated[
    bool, typer.Option("--verify/--no-verify", help="Read back what was written before it gets its name.")
]
Strict = Annotated[bool, typer.Option("--strict", help="Fail on warnings too.")]
CheckpointOption = Annotated[
    Location | None, path_option("--checkpoint", help="Checkpoint written by `vq-export lightx2v`.")
]
Dtype = Annotated[
    str, typer.Option("--dtype", help="Of tensors that are dequantized or unsmoothed: fp32 (exact) or bf16.")
]
T5File = Annotated[Location | None, path_option("--t5", help="The original text encoder's file, .pth or safetensors.")]
ClipFile = Annotated[
    Location | None, path_option("--clip", help="The original image encoder's file, .pth or safetensors.")
]
Pth = Annotated[bool, typer.Option("--pth", help="Write .pth files, which LightX2V finds by itself, not safetensors.")]
CheckpointOrFile = Annotated[
    Location, path_argument(help="A checkpoint written by vq-export, or one safetensors file of it.")
]
CheckpointFolder = Annotated[Location, path_argument(help="A checkpoint written by `vq-export lightx2v`.")]


def export_command(
    context: typer.Context,
    weights: Weights = None,
    qparams: QParams = None,
    model: Model = None,
    lora: Lora = None,
    scheme: Scheme = None,
    rounding: RoundingOption = None,
    allow_pth: AllowPth = False,
    output: Output = None,
    device: Device = None,
    recipe: Recipe = None,
    verify: Verify = True,
    strict: Strict = False,
    resume: Resume = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """From smoothed weights and quant params, or straight from a model (round to nearest, no calibration).

    Needs no GPU and no more memory than two blocks. What was written is read back and held against what it was rounded
    from before it gets its name; if that fails it stays as OUTPUT.unverified, with exit code 1.

    For example:

        vq-export TARGET --weights smoothed --qparams qparams -o checkpoint

        vq-export TARGET --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --scheme fp8 -o checkpoint

        vq-export TARGET --model MODEL --lora distilled.safetensors:0.8 --scheme fp8 -o checkpoint
    """
    from vq_core.recipes.recipe import read_recipe
    from vq_core.runtime.device import resolve_device
    from vq_core.runtime.meter import Meter
    from vq_export.export import ExportInputs, open_model, verified_row, written
    from vq_export.gate import export
    from vq_export.targets import target_named

    set_up_logging(verbose)
    meter = Meter()
    target = str(context.info_name)
    said = read_recipe(recipe)
    folder = required(output or (said.output and said.output / target), "--output")
    inputs = ExportInputs(weights, qparams, model, scheme, rounding, tuple(lora or ()), allow_pth)
    where = resolve_device(device)
    quantized = open_model(inputs, said, device=where)
    found = export(target, quantized, folder, resume=resume, verify=verify, strict=strict, device=where)
    summary = written(quantized, folder)
    report(
        f"Wrote {folder}",
        {**summary.rows(), **verified_row(target, found, asked=verify), **meter.usage().rows()},
        result={**vars(summary), "verified": found and found.as_json(), "usage": vars(meter.usage())},
        as_json=as_json,
        next_steps=target_named(target).next_steps(quantized, folder),
    )


for name in target_names():
    examples = inspect.cleandoc(export_command.__doc__ or "").replace("TARGET", name)
    app.command(name, help=f"{target_summary(name)}\n\n{examples}")(export_command)


@app.command("diffusers")
def diffusers_command(
    model: Model = None,
    checkpoint: CheckpointOption = None,
    weights: Weights = None,
    qparams: QParams = None,
    lora: Lora = None,
    allow_pth: AllowPth = False,
    dtype: Dtype = "fp32",
    output: Output = None,
    resume: Resume = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Write transformers in full precision as diffusers loads them.

    A model in Wan-AI's layout is renamed, tensor by tensor the same. A quantized checkpoint is dequantized. Smoothed
    weights stay smoothed (folded) where diffusers' layout can hold it, and have the same function as the model.

    For example:

        vq-export diffusers --model Wan2.1-T2V-14B -o transformer

        vq-export diffusers --checkpoint wan-int8 -o transformer --dtype bf16

        vq-export diffusers --weights smoothed -o transformer
    """
    from vq_core.runtime.meter import Meter
    from vq_export.diffusers_folder import export_diffusers, written
    from vq_export.model.full_precision import FullPrecisionInputs, open_full_precision

    set_up_logging(verbose)
    meter = Meter()
    folder = required(output, "--output")
    opened = open_full_precision(FullPrecisionInputs(model, checkpoint, weights, qparams, tuple(lora or ()), allow_pth))
    export_diffusers(opened, folder, dtype, resume=resume)
    summary = written(opened, folder)
    report(
        f"Wrote {folder}",
        {**summary.rows(), **meter.usage().rows()},
        result={**vars(summary), "usage": vars(meter.usage())},
        as_json=as_json,
    )


@app.command("encoders")
def encoders_command(
    model: Model = None,
    t5: T5File = None,
    clip: ClipFile = None,
    scheme: Scheme = None,
    pth: Pth = False,
    output: Output = None,
    device: Device = None,
    resume: Resume = False,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Write the text encoder, and the image encoder where there is one, as LightX2V's quantized files.

    From a diffusers pipeline, or from the files of the original model. Needs no GPU and about 1 GB of memory.

    For example:

        vq-export encoders --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --scheme int8 -o encoders

        vq-export encoders --t5 models_t5_umt5-xxl-enc-bf16.pth --scheme fp8 -o encoders
    """
    from vq_core.numerics.scheme import scheme_named
    from vq_core.runtime.device import resolve_device
    from vq_core.runtime.meter import Meter
    from vq_export.encoders.export import export_encoders, next_steps, rows, run_config_keys, written
    from vq_export.encoders.source import open_encoders

    set_up_logging(verbose)
    meter = Meter()
    chosen, folder = scheme_named(required(scheme, "--scheme")), required(output, "--output")
    sources = open_encoders(model, {key: path for key, path in (("t5", t5), ("clip", clip)) if path})
    name = model or ", ".join(path.name for path in (t5, clip) if path)
    export_encoders(sources, chosen, folder, model=name, pth=pth, device=resolve_device(device), resume=resume)
    summary, keys = written(sources, chosen, folder, pth=pth), run_config_keys(sources, chosen, folder, pth=pth)
    report(
        f"Wrote {folder}",
        {"scheme": chosen.name, **rows(summary), **meter.usage().rows()},
        result={
            "output": folder,
            "scheme": chosen.name,
            "files": [vars(it) for it in summary],
            "run_config": keys,
            "usage": vars(meter.usage()),
        },
        as_json=as_json,
        next_steps=next_steps(keys),
    )


@app.command("verify")
def verify_command(
    checkpoint: CheckpointFolder,
    model: Model = None,
    lora: Lora = None,
    allow_pth: AllowPth = False,
    strict: Strict = False,
    device: Device = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Re-read a checkpoint and check everything that LightX2V will rely on.

    With --model, also compare every tensor with the one it was made from, and compute a block from both; --lora says
    what was merged into the model. Exits with 1 if anything is wrong.

    For example:

        vq-export verify checkpoint

        vq-export verify checkpoint --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers
    """
    from vq_core.artifacts.checkpoint import open_checkpoint
    from vq_core.model.lora_request import parse_lora
    from vq_core.model.source import open_source
    from vq_core.runtime.device import resolve_device
    from vq_core.runtime.meter import Meter
    from vq_export.verify.reference import model_reference
    from vq_export.verify.verification import enforce
    from vq_export.verify.verify import verify

    set_up_logging(verbose)
    meter = Meter()
    opened = open_checkpoint(checkpoint)
    source = open_source(model, [parse_lora(it) for it in lora or ()], allow_pth=allow_pth) if model else None
    reference = model_reference(source, opened) if source else None
    found = verify(opened, reference, device=resolve_device(device))
    report(
        f"Verified {checkpoint}",
        {**found.rows(), **meter.usage().rows()},
        result={"checkpoint": checkpoint, **found.as_json(), "usage": vars(meter.usage())},
        as_json=as_json,
    )
    enforce(found, checkpoint, strict=strict)


@app.command("show")
def show_command(checkpoint: CheckpointOrFile, as_json: AsJson = False) -> None:
    """Tell how a checkpoint was quantized: model, LoRAs, settings, statistics, versions, and the error of every layer.

    For example:

        vq-export show checkpoint

        vq-export show block_3.safetensors --json
    """
    from vq_export.show import provenance_of, provenance_rows

    said = provenance_of(checkpoint)
    report(f"How {checkpoint} was quantized", provenance_rows(said), result=said, as_json=as_json)


def main() -> None:
    """Entry point of the `vq-export` command."""
    run(app)
