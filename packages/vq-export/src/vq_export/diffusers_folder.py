"""Write a model's transformers as diffusers loads them: config.json, one shard per block, and the index over them.

A single transformer lies in the folder itself, `WanTransformer3DModel.from_pretrained(FOLDER)`; two experts have a
folder each, `from_pretrained(FOLDER, subfolder="transformer_2")`. There is no model_index.json, because text encoder
and VAE are missing: copy the folders over those of a pipeline. See docs/formats/diffusers-transformer.md.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from vq_core.errors import VqError
from vq_core.files.folder_content import size_of
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy
from vq_core.runtime.progress import progress
from vq_core.store.writer import create_artifact
from vq_export.model.full_precision import FullPrecisionModel, full_precision
from vq_export.writing.shard_index import write_index

KIND = "diffusers-transformer"
FORMAT = 1
CONFIG_FILE = "config.json"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def export_diffusers(model: FullPrecisionModel, output: Location, dtype: str = "fp32", *, resume: bool = False) -> None:
    """Write `model` to the folder `output`; tensors that are dequantized or multiplied by a gain are stored as `dtype`.

    Host memory: one block.

    Raises:
        VqError: `output` exists, `dtype` is not one of `DTYPES`, or the model cannot be read.
    """
    if dtype not in DTYPES:
        raise VqError(f"`{dtype}` is not a dtype for computed weights: choose one of {', '.join(DTYPES)}.")
    folders = {name: name if len(model.components) > 1 else "" for name in model.components}
    header = model.header(KIND, FORMAT, folders, {"form": model.form, "dtype": dtype, **model.settings})
    with create_artifact(output, header, resume=resume) as writer, progress("export", model.shards, "shard") as advance:
        for name, component in model.components.items():
            folder, shards = Path(folders[name]), component.topology.shards()
            files: list[str] = []
            for number, names in enumerate(shards.values(), 1):  # files are numbered as diffusers does
                file = f"diffusion_pytorch_model-{number:05}-of-{len(shards):05}.safetensors"
                files.append((folder / file).as_posix())
                if not writer.has(files[-1]):
                    writer.write_tensors(files[-1], full_precision(component, names, DTYPES[dtype]))
                advance()
            write_index(writer, folders[name], files)
            writer.write_text((folder / CONFIG_FILE).as_posix(), json.dumps(component.config, indent=2) + "\n")


@dataclass(frozen=True)
class Written:
    """Summary of what was written; `form` is that of the model, `size` is in bytes."""

    output: Location
    form: str
    components: tuple[str, ...]
    size: int

    def rows(self) -> dict[str, str]:
        """The lines of the summary."""
        return {"form": self.form, "components": ", ".join(self.components), "size": f"{self.size / 1e9:.3g} GB"}


def written(model: FullPrecisionModel, output: Location) -> Written:
    """Sums up the transformers of `model` in the folder `output`."""
    return Written(output, model.form, tuple(model.components), size_of(local_copy(output)))
