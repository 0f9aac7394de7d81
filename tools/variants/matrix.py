"""Take a tiny model of every Wan layout through every stage, and write the figures: docs/variants.md."""

import json
import os
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

import pages
from road import Road
from variants.travel import STAGES, Journey, travel
from vq_core.testing.tiny_models import VARIANTS, Variant, build_tiny, write_samples

MODELS: dict[Variant, str] = {
    "t2v": "Wan2.1 T2V 1.3B, 14B",
    "i2v": "Wan2.1 I2V 14B 480P, 720P",
    "flf2v": "Wan2.1 FLF2V 14B 720P",
    "vace": "Wan2.1 VACE 1.3B, 14B",
    "t2v-2.2": "Wan2.2 T2V A14B",
    "i2v-2.2": "Wan2.2 I2V A14B",
    "ti2v-5b": "Wan2.2 TI2V 5B",
    "t2v-distilled": "distilled, few steps",
}
# Transformers by the same authors that do not belong to the family, by the `_class_name` of their config.json.
FOREIGN = {"Wan2.2 Animate 14B": "WanAnimateTransformer3DModel", "Wan2.2 S2V 14B": "WanModel_S2V"}

INTRODUCTION = """\
# Every Wan, at every stage

Written by `make variants` on {date}: torch {torch}, diffusers {diffusers}, {cores} CPU cores, {seconds} s in all.
Every cell was run on a random model of a few megabytes, with the layout of the models in the first column
(`vq_core.testing.tiny_models`): two steps (the distilled model's own four), 64x64 pixels, five frames, SmoothQuant,
rounding to nearest. A cell has two values if INT8 and FP8 differ.

| column | content |
| --- | --- |
| collect | tokens that one linear of self-attention read, per transformer, over both branches of guidance |
| smooth, quantize | groups with a decision and linears with codes, over all transformers |
| export | size of the checkpoint |
| verify | tensors that were read back and found sound, and the lowest SNR of a weight against the model's |
| fake-quant, infer | PSNR of the video against full precision: quantization simulated, and with real codes |
| LightX2V runs it as | its class and task in the run configs |

The models are random, so a PSNR shows that every stage works; it says nothing about a trained model.

"""


def foreign_model(folder: Path, class_name: str) -> Path:
    """A transformer folder with nothing but a class name: it is refused before a tensor is read."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"_class_name": class_name}), encoding="utf-8")
    return folder


def table(journeys: dict[str, Journey]) -> str:
    """The matrix as Markdown, refusals below it."""
    rows = [(model, *(journey.seen.get(stage, "–") for stage in STAGES)) for model, journey in journeys.items()]
    notes = [f"\n{model} is refused: {it}\n" for model, journey in journeys.items() for it in journey.refusal]
    return f"{pages.table(('model', *STAGES), rows)}\n{''.join(notes)}"


def main(
    output: Annotated[Path, typer.Option(help="The table.")] = Path("docs/variants.md"),
    folder: Annotated[Path, typer.Option(help="Folder of intermediate files, made anew.")] = Path("build/variants"),
) -> None:
    """Run every cell and write the table."""
    import diffusers
    import torch

    start, output = time.monotonic(), output.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    os.chdir(folder)  # so that sentences name no folder of this machine
    console = Console(stderr=True)
    prompts = write_samples(Path("prompts"), 1, with_images=True)
    journeys = {}
    for variant in VARIANTS:
        model = build_tiny(variant, Path("models") / variant)
        road = Road(console, f"{variant} ")
        journeys[MODELS[variant]] = travel(road, model, prompts, Path(variant), variant)
    for name, class_name in FOREIGN.items():
        model = foreign_model(Path("models") / class_name, class_name)
        journeys[name] = travel(Road(console, f"{class_name} "), model, prompts, Path(class_name), None)
    introduction = INTRODUCTION.format(
        date=pages.today(),
        torch=torch.__version__,
        diffusers=diffusers.__version__,
        cores=os.cpu_count(),
        seconds=round(time.monotonic() - start),
    )
    output.write_text(introduction + table(journeys), encoding="utf-8")
    print(f"Wrote {output}")


if __name__ == "__main__":
    typer.run(main)
