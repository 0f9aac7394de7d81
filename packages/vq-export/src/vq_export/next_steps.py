"""The commands that follow an export for a runtime that vq-infer stands for."""

import shlex
from pathlib import Path

from vq_core.remote.location import Location
from vq_export.model.quantized_model import QuantizedModel

COMMANDS = {"ti2v": "t2v", "flf2v": "i2v"}
"""The command of vq-infer for what is not called like one."""
IMAGES = {"i2v": "--image IMAGE ", "flf2v": "--image IMAGE --last-image IMAGE "}


def verify_and_infer(model: QuantizedModel, output: Location) -> str:
    """`vq-export verify` of the checkpoint in `output`, and `vq-infer` with it.

    The gate compared a smoothed checkpoint with the smoothed weights, so `verify` compares it with the model, unless
    LoRAs are merged, whose files are not known here. Videos need a pipeline, not a transformer alone.
    """
    checkpoint, source = shlex.quote(str(output)), shlex.quote(model.model)
    components = list(model.components.values())
    kind = model.family.native_config(components[0].config)["model_type"]
    here = Path(model.model)
    pipeline = "PIPELINE" if here.exists() and not (here / "model_index.json").is_file() else source
    command = f"vq-infer {COMMANDS.get(kind, kind)} --model {pipeline} --checkpoint {checkpoint}"
    infer = f"{command} {IMAGES.get(kind, '')}--prompt TEXT -o video.mp4"
    merged = any(component.lora for component in components)
    return infer if merged or not model.parents else f"vq-export verify {checkpoint} --model {source}\nthen: {infer}"
