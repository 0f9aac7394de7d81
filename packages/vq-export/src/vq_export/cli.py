"""`vq-export`: write quantized checkpoints for runtimes, and verify them cold."""

import inspect
from functools import partial

from vq_core.cli.app import new_app, report, required, run, set_up_logging
from vq_core.cli.command import takes_options
from vq_export.options import DiffusersOptions, EncodersOptions, ExportOptions, ShowOptions, VerifyOptions
from vq_export.targets import target_names, target_summary

app = new_app("Write quantized checkpoints in the layouts that runtimes load, and verify them.")


def export_command(target: str, options: ExportOptions) -> None:
    """From smoothed weights and quant params, or straight from a model (round to nearest, no calibration).

    Needs no GPU and no more memory than two blocks. The output is read back and compared with its
    source before it gets its name; if that fails, it stays as OUTPUT.unverified and the exit code is 1.

    For example:

        vq-export TARGET --weights smoothed --qparams qparams -o checkpoint

        vq-export TARGET --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --scheme fp8 -o checkpoint

        vq-export TARGET --model MODEL --lora distilled.safetensors:0.8 --scheme fp8 -o checkpoint
    """
    from vq_core.recipes.recipe import read_recipe
    from vq_core.runtime.device import resolve_device
    from vq_core.runtime.meter import Meter
    from vq_export.export import open_model, verified_row, written
    from vq_export.gate import export
    from vq_export.targets import target_named

    set_up_logging(options.verbose)
    meter = Meter()
    said = read_recipe(options.recipe)
    folder = required(options.output or (said.output and said.output / target), "--output")
    where = resolve_device(options.device)
    quantized = open_model(options, said, device=where)
    found = export(
        target, quantized, folder, resume=options.resume, verify=options.verify, strict=options.strict, device=where
    )
    summary, notes = written(quantized, folder), target_named(target).notes(quantized)
    report(
        f"Wrote {folder}",
        {
            **notes,
            **summary.rows(),
            **verified_row(found),
            **meter.usage().rows(),
        },
        result={**vars(summary), "notes": notes, "verified": found and found.as_json(), "usage": vars(meter.usage())},
        as_json=options.as_json,
        next_steps=target_named(target).next_steps(quantized, folder),
    )


for name in target_names():
    examples = inspect.cleandoc(export_command.__doc__ or "").replace("TARGET", name)
    to_target = takes_options(ExportOptions)(partial(export_command, name))
    app.command(name, help=f"{target_summary(name)}\n\n{examples}")(to_target)


@app.command("diffusers")
@takes_options(DiffusersOptions)
def diffusers_command(options: DiffusersOptions) -> None:
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
    from vq_export.model.full_precision import open_full_precision

    set_up_logging(options.verbose)
    meter = Meter()
    folder = required(options.output, "--output")
    opened = open_full_precision(options)
    export_diffusers(opened, folder, options.dtype, resume=options.resume)
    summary = written(opened, folder)
    report(
        f"Wrote {folder}",
        {**summary.rows(), **meter.usage().rows()},
        result={**vars(summary), "usage": vars(meter.usage())},
        as_json=options.as_json,
    )


@app.command("encoders")
@takes_options(EncodersOptions)
def encoders_command(options: EncodersOptions) -> None:
    """Write the text encoder and, if the model has one, the image encoder as LightX2V's quantized files.

    From a diffusers pipeline, or from the files of the original model. Needs no GPU and about 1 GB of memory.

    For example:

        vq-export encoders --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers --scheme int8 -o encoders

        vq-export encoders --t5 models_t5_umt5-xxl-enc-bf16.pth --scheme fp8 -o encoders
    """
    from vq_core.numerics.scheme import plain_scheme_named
    from vq_core.runtime.device import resolve_device
    from vq_core.runtime.meter import Meter
    from vq_export.encoders.export import export_encoders, next_steps, rows, run_config_keys, written
    from vq_export.encoders.source import open_encoders

    set_up_logging(options.verbose)
    meter = Meter()
    chosen, folder = plain_scheme_named(required(options.scheme, "--scheme")), required(options.output, "--output")
    files = {key: path for key, path in (("t5", options.t5), ("clip", options.clip)) if path}
    sources = open_encoders(options.model, files)
    name = options.model or ", ".join(path.name for path in files.values())
    device = resolve_device(options.device)
    export_encoders(sources, chosen, folder, model=name, pth=options.pth, device=device, resume=options.resume)
    summary = written(sources, chosen, folder, pth=options.pth)
    keys = run_config_keys(sources, chosen, folder, pth=options.pth)
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
        as_json=options.as_json,
        next_steps=next_steps(keys),
    )


@app.command("verify")
@takes_options(VerifyOptions)
def verify_command(options: VerifyOptions) -> None:
    """Read a checkpoint back and check everything that LightX2V or ComfyUI relies on.

    With --model, also compare every tensor with the one it was made from, and compute a block from both; --lora says
    what was merged into the model. Exits with 1 if anything is wrong.

    For example:

        vq-export verify checkpoint

        vq-export verify checkpoint --model Wan-AI/Wan2.1-I2V-14B-480P-Diffusers
    """
    from vq_core.artifacts.converted import open_converted
    from vq_core.model.lora_request import parse_lora
    from vq_core.model.source import open_source
    from vq_core.runtime.device import resolve_device
    from vq_core.runtime.meter import Meter
    from vq_export.verify.reference import model_reference
    from vq_export.verify.verification import enforce
    from vq_export.verify.verify import verify

    set_up_logging(options.verbose)
    meter = Meter()
    opened = open_converted(options.checkpoint)
    reference = None
    if options.model:
        loras = [parse_lora(it) for it in options.lora or ()]
        reference = model_reference(open_source(options.model, loras, allow_pth=options.allow_pth), opened)
    found = verify(opened, reference, device=resolve_device(options.device))
    report(
        f"Verified {options.checkpoint}",
        {**found.rows(), **meter.usage().rows()},
        result={"checkpoint": options.checkpoint, **found.as_json(), "usage": vars(meter.usage())},
        as_json=options.as_json,
    )
    enforce(found, options.checkpoint, strict=options.strict)


@app.command("show")
@takes_options(ShowOptions)
def show_command(options: ShowOptions) -> None:
    """Show how a checkpoint was quantized: model, LoRAs, settings, statistics, versions, and the error of every layer.

    For example:

        vq-export show checkpoint

        vq-export show block_3.safetensors --json
    """
    from vq_export.show import provenance_of, provenance_rows

    said = provenance_of(options.checkpoint)
    report(f"How {options.checkpoint} was quantized", provenance_rows(said), result=said, as_json=options.as_json)


def main() -> None:
    """Entry point of the `vq-export` command."""
    run(app)
