"""Write the checkpoint that LightX2V loads, with run configs and a script beside it.

Native names, one file per block and a native config.json: this layout loads in LightX2V's present and former
versions and in its lazy mode; see docs/formats/lightx2v-checkpoint.md.
"""

import json
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import JsonValue
from torch import Tensor

from vq_core.artifacts.checkpoint import (
    FORMAT,
    IMAGE_TOKENS,
    KIND,
    RUN_CONFIG_FOLDER,
    CheckpointTensor,
    Role,
    checkpoint_tensors,
    image_tokens,
)
from vq_core.errors import VqError
from vq_core.families.wan.kinds import Kind
from vq_core.numerics.scheme import scheme_named
from vq_core.remote.location import Location
from vq_core.runtime.progress import Advance, progress
from vq_core.store.writer import ArtifactWriter, Check, create_artifact
from vq_core.targets import require_input_means, require_scheme
from vq_export.lightx2v.run_configs import RUN_SCRIPT, run_configs, run_script
from vq_export.lightx2v.run_configs import notes as run_config_notes
from vq_export.model.quantized_model import QuantizedModel, QuantizedTransformer, stored_plain
from vq_export.next_steps import verify_and_infer
from vq_export.provenance import file_metadata, provenance_settings, read_provenance
from vq_export.verify.verify import verify_lightx2v
from vq_export.writing.overlap import overlap
from vq_export.writing.shard_index import write_index

VERIFIER = verify_lightx2v
next_steps = verify_and_infer
CONFIG_FILE = "config.json"
QUANT_METHOD = "advanced_ptq"
"""LightX2V applies the gains only with this `quant_method` in config.json."""


def export(model: QuantizedModel, output: Location, *, resume: bool = False, check: Check | None = None) -> None:
    """Write `model` to the folder `output`. Host memory: two blocks.

    Raises:
        VqError: it is one expert of a pair or no published Wan; LightX2V cannot sample as its settings say; a linear
            reads a rotated input or stays in full precision; see `create_artifact`.
    """
    require_scheme("lightx2v", model.scheme)
    if model.rotated:
        raise VqError(
            "LightX2V does not rotate what a linear reads, and these codes need it: quantize with `--rotate none`, or "
            "export for comfyui."
        )
    if model.subtracts:
        require_input_means("lightx2v")
    if model.kept:
        raise VqError(
            "LightX2V reads every linear of a block in 8 bits, and some of these stay in full precision: quantize "
            "without --keep, --keep-size and --min-snr, or export for comfyui or native."
        )
    configs = run_configs(_kind(model), scheme_named(model.scheme), _sampling(model), gains=model.has_gains)
    header = model.header(KIND, FORMAT, model.folders, provenance_settings(model))
    with (
        create_artifact(output, header, resume=resume, check=check) as writer,
        progress("export", model.shards, "shard") as advance,
    ):
        for name, component in model.components.items():
            entries = checkpoint_tensors(component.topology, model.family, gains=model.has_gains)
            draft, publish = partial(_draft_shard, writer, model, name, entries), partial(_publish, writer, advance)
            overlap(draft, component.topology.shards(), publish)
            files = [_file_of(model.folders[name], shard) for shard in component.topology.shards()]
            writer.note_measured({name: _measured(writer, files)})
            write_index(writer, model.folders[name], files)
        _write_configs(writer, model, configs)


def notes(model: QuantizedModel) -> dict[str, str]:
    """Which Wan it is, what of the run configs no file of the model says, and why there is no run script."""
    found = run_config_notes(_kind(model), _sampling(model))
    if (tokens := image_tokens(_first(model).config, _sampling(model))) not in (None, IMAGE_TOKENS):
        found["run script"] = (
            f"none: the model's image encoder gives {tokens} tokens, and LightX2V takes {IMAGE_TOKENS}, whatever there "
            "are, so that its videos would be noise"
        )
    return found


def _draft_shard(
    writer: ArtifactWriter, model: QuantizedModel, name: str, entries: dict[str, CheckpointTensor], shard: str
) -> str:
    """Write the file of `shard` where it is not finished yet; returns its name."""
    file = _file_of(model.folders[name], shard)
    if not writer.has(file):
        tensors = shard_tensors(model.components[name], entries, shard)
        linears = [linear.name for linear in model.components[name].topology.linears if linear.shard == shard]
        writer.draft_tensors(file, tensors, file_metadata(model, KIND, name, shard, linears))
    return file


def _file_of(folder: str, shard: str) -> str:
    return (Path(folder) / f"{shard}.safetensors").as_posix()


def _publish(writer: ArtifactWriter, advance: Advance, file: str) -> None:
    if not writer.has(file):
        writer.publish(file)
    advance()


def shard_tensors(
    component: QuantizedTransformer, entries: dict[str, CheckpointTensor], shard: str
) -> dict[str, Tensor]:
    """The tensors of one shard by their names in the checkpoint."""
    plain = stored_plain(component, shard)
    tensors: dict[str, Tensor] = {}
    for name, entry in entries.items():
        if entry.shard != shard:
            continue
        match entry.role:
            case Role.PLAIN:
                tensors[name] = plain[entry.origin]
            case Role.GAIN:
                gain = component.gain(entry.origin)
                tensors[name] = torch.ones(entry.shape) if gain is None else gain
            case Role.CODES:
                quantized = component.linear(entry.origin)
                tensors[name], tensors[f"{name}_scale"] = quantized.codes, quantized.scale
            case Role.SCALE:
                pass  # written with its codes
    return tensors


def _measured(writer: ArtifactWriter, files: Iterable[str]) -> dict[str, JsonValue]:
    """How each linear was rounded and with what error, read from the files: an earlier run may have written some."""
    measured: dict[str, JsonValue] = {}
    for file in files:
        measured |= read_provenance(writer.path(file))["linears"]
    return measured


def _first(model: QuantizedModel) -> QuantizedTransformer:
    """LightX2V reads one config.json for both experts of Wan 2.2."""
    return next(iter(model.components.values()))


def _sampling(model: QuantizedModel) -> dict[str, Any]:
    return cast(dict[str, Any], model.settings.get("sampling", {}))


def _kind(model: QuantizedModel) -> Kind:
    configs = [component.config for component in model.components.values()]
    return model.family.kind_of(configs, model.model, experts=_sampling(model).get("experts", len(configs)))


def _write_configs(writer: ArtifactWriter, model: QuantizedModel, run_configs: Mapping[str, Any]) -> None:
    config = model.family.native_config(_first(model).config)
    if model.has_gains:
        config["quant_method"] = QUANT_METHOD
    writer.write_text(CONFIG_FILE, json.dumps(config, indent=2) + "\n")
    for file, run_config in run_configs.items():
        writer.write_text(f"{RUN_CONFIG_FOLDER}/{file}", json.dumps(run_config, indent=2) + "\n")
    if "run script" not in notes(model):
        writer.write_text(RUN_SCRIPT, run_script())
        writer.path(RUN_SCRIPT).chmod(0o755)
