"""Which files are a model's transformers, in every layout that models come in.

* a diffusers pipeline, which lists its transformers in model_index.json;
* a folder with `transformer` and, for two experts, `transformer_2`; or Wan-AI's, `high_noise_model`, `low_noise_model`;
* a transformer's own folder, with config.json or without, or Wan-AI's with T5, CLIP and VAE beside it;
* two experts as two files in one folder, whose names say high and low noise;
* one file.

Tensors come out by diffusers' names and the configuration with diffusers' keys, whichever way they are stored.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from vq_core.errors import VqError
from vq_core.families import Family, family_named, family_names, family_of
from vq_core.files.buffers import Buffers
from vq_core.files.gguf_file import SUFFIX as GGUF_SUFFIX
from vq_core.files.gguf_file import GgufFile
from vq_core.files.given_file import is_there
from vq_core.files.json_file import read_json
from vq_core.files.pth_file import SUFFIXES as PTH_SUFFIXES
from vq_core.files.pth_file import PthFile
from vq_core.files.tensor_file import TensorInfo
from vq_core.files.tensor_folder import INDEX_FILE, gather_tensors, index_tensors, is_shard
from vq_core.files.weights_file import WeightsFile
from vq_core.model.already_quantized import refuse_artifact
from vq_core.model.comfyui_codes import dequantize_comfyui
from vq_core.model.file_choice import expert_files, without_variants
from vq_core.model.gguf_tensors import gguf_types, with_lost_ones
from vq_core.model.pipeline_parts import MODEL_INDEX, read_parts
from vq_core.model.tensor_naming import StoredTensor, name_tensors

CONFIG_FILE = "config.json"
# Wan-AI's folders hold the text and image encoders and the VAE beside the transformer.
_PARTS = ("vae", "scheduler", "text_encoder")  # of a pipeline, beside its transformers
_OTHER_PARTS = re.compile(r"(models_t5|models_clip|wan2\.\d_vae)", re.IGNORECASE)


@dataclass(frozen=True)
class TransformerPath:
    """Where a transformer lies: a folder or one file, and the configuration beside it, if any.

    `files` are those of the folder that belong to it; without them the folder is looked through.
    """

    weights: Path
    config: Path | None
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class StoredTransformer:
    """A transformer as it is stored, opened but not read.

    Attributes:
        where: its folder or file.
        family_name: name of its family.
        family: that family.
        config: its configuration, diffusers' keys.
        native: whether the files spell the tensors as Wan-AI does.
        tensors: by diffusers' names; what has none keeps its own.
        rounded: what weights were rounded to that are dequantized as they are read, in words; empty where none are.
    """

    where: Path
    family_name: str
    family: Family
    config: dict[str, Any]
    native: bool
    tensors: Mapping[str, StoredTensor]
    rounded: str

    @property
    def infos(self) -> dict[str, TensorInfo]:
        """Dtype and shape of each tensor."""
        return {name: tensor.info for name, tensor in self.tensors.items()}


def transformer_paths(path: Path) -> dict[str, TransformerPath]:
    """The transformers of the model in the folder or file `path`, by component.

    Raises:
        VqError: it is no model, one of ours that is quantized, or half of one.
    """
    if path.is_file():
        beside = path.parent / CONFIG_FILE
        return {"transformer": TransformerPath(path, beside if _is_transformer_config(beside) else None)}
    refuse_artifact(path)
    found = _in_pipeline(path) or _in_subfolders(path) or _in_expert_folders(path)
    if found:
        return found
    config = path / CONFIG_FILE if is_there(path / CONFIG_FILE) else None
    files = [] if is_there(path / INDEX_FILE) else _weights_in(path)
    if experts := expert_files(without_variants(files)):
        return {name: TransformerPath(its[0] if len(its) == 1 else path, config, its) for name, its in experts.items()}
    if config is not None or files:
        return {"transformer": TransformerPath(path, config)}
    raise VqError(
        f"{path} is not a model that is read here (no model_index.json that lists a transformer, no {CONFIG_FILE}, "
        "no safetensors or GGUF file): give a folder in diffusers' or Wan-AI's layout, or the file with the weights."
    )


def read_transformer(path: TransformerPath, *, allow_pth: bool = False) -> StoredTransformer:
    """Open the transformer that lies in `path`.

    Raises:
        VqError: a file is missing or damaged, the tensors are no transformer that is known here or no whole one, they
            contradict the configuration, or they are in a `.pth` file and `allow_pth` is off.
    """
    config = None if path.config is None else read_json(path.config)
    if config is not None and not _is_native(config):
        family_of(config, str(path.weights))  # an unknown model is told by its configuration, before its tensors
    named = name_tensors(_open_weights(path, allow_pth), path.weights)
    tensors, rounded = dequantize_comfyui(named.tensors, path.weights)
    if config is None or named.family.is_native_config(config):
        shapes = {name: tensor.info.shape for name, tensor in tensors.items()}
        config = named.family.diffusers_config(shapes, config, str(path.weights))
    # What LLMC adds for LightX2V says nothing of the model.
    config = {key: value for key, value in config.items() if key != "quant_method"}
    if types := gguf_types(tensors):
        tensors, rounded = with_lost_ones(tensors, named.family.topology(config).tensors), types
    return StoredTransformer(path.weights, named.family_name, named.family, config, named.native, tensors, rounded)


def require_tensors(
    stored: StoredTransformer, shapes: Mapping[str, tuple[int, ...]], *, besides: Collection[str] = ()
) -> None:
    """Refuse a transformer that has not exactly the tensors of `shapes`, with those shapes, and those of `besides`.

    Raises:
        VqError: a tensor is missing, unknown or misshapen.
    """
    for name, shape in shapes.items():
        if name not in stored.tensors:
            raise VqError(f"{stored.where} lacks the tensor `{name}`: get the missing shard.")
        if stored.tensors[name].info.shape != shape:
            raise VqError(
                f"`{name}` in {stored.where} is {list(stored.tensors[name].info.shape)} and should be {list(shape)}, "
                "as its config.json or its other tensors say: get a matching pair."
            )
    expected = {*shapes, *besides}
    unknown = [
        name for name in stored.tensors if name not in expected and not name.endswith(stored.family.IGNORED_TENSORS)
    ]
    if unknown:
        raise VqError(
            f"`{unknown[0]}` in {stored.where} is not part of the architecture ({len(unknown)} such tensors): "
            "get the plain model."
        )


def _in_pipeline(path: Path) -> dict[str, TransformerPath]:
    if not is_there(path / MODEL_INDEX):
        return {}
    names = [name for name in read_parts(path) if name.startswith("transformer")]
    return {name: TransformerPath(path / name, path / name / CONFIG_FILE) for name in names}


def _in_subfolders(path: Path) -> dict[str, TransformerPath]:
    names = [name for family in map(family_named, family_names()) for name in family.COMPONENTS]
    configs = {name: path / name / CONFIG_FILE for name in names}
    found = {name: TransformerPath(path / name, config) for name, config in configs.items() if is_there(config)}
    if parts := [part for part in _PARTS if found and is_there(path / part)]:
        raise VqError(
            f"{path / MODEL_INDEX} is missing, and {parts[0]} is there: get the whole pipeline, or give "
            f"{path / next(iter(found))} alone."
        )
    return found


def _in_expert_folders(path: Path) -> dict[str, TransformerPath]:
    for family in map(family_named, family_names()):
        folders = {name: path / folder for name, folder in family.expert_folders(family.COMPONENTS).items()}
        present = [folder for folder in folders.values() if folder.is_dir()]
        if not present:
            continue
        if missing := [folder for folder in folders.values() if folder not in present]:
            raise VqError(
                f"{path} has {present[0].name} and lacks {missing[0].name}: "
                f"get the whole model, or give {present[0]} for one expert alone."
            )
        configs = {name: [folder / CONFIG_FILE, path / CONFIG_FILE] for name, folder in folders.items()}
        return {
            name: TransformerPath(folder, next((config for config in configs[name] if is_there(config)), None))
            for name, folder in folders.items()
        }
    return {}


def _weights_in(folder: Path) -> list[Path]:
    """Files in `folder` that may hold the transformer: safetensors, else GGUF, else `.pth`."""
    files = [path for path in sorted(folder.iterdir()) if not _OTHER_PARTS.match(path.name)]
    for suffixes in ((".safetensors",), (GGUF_SUFFIX,), PTH_SUFFIXES):
        if found := [path for path in files if path.suffix in suffixes]:
            return found
    return []


def _open_weights(path: TransformerPath, allow_pth: bool) -> dict[str, WeightsFile]:
    where, files = path.weights, list(path.files)
    if not files and where.is_file():
        if is_shard(where):
            raise VqError(f"{where} is one of several shards: give its folder.")
        files = [where]
    if not files and not is_there(where / INDEX_FILE) and where.is_dir():
        files = [file for found in without_variants(_weights_in(where)) for file in found]
    if not files:
        return index_tensors(where)
    if files[0].suffix == GGUF_SUFFIX:
        return gather_tensors(files, GgufFile)
    if files[0].suffix in PTH_SUFFIXES:
        if not allow_pth:
            raise VqError(
                f"{where} holds no safetensors file but {files[0].name}, a format that can carry programs: "
                "convert it to safetensors, or add --allow-pth to read its weights and nothing else."
            )
        return gather_tensors(files, partial(PthFile, buffers=Buffers()))
    return gather_tensors(files)


def _is_native(config: Mapping[str, Any]) -> bool:
    return any(family_named(name).is_native_config(config) for name in family_names())


def _is_transformer_config(path: Path) -> bool:
    """Is there a configuration in `path`, and of a transformer? Beside a single file there may be any other."""
    if not is_there(path):
        return False
    config = read_json(path)
    return _is_native(config) or any(family_named(name).matches(config) for name in family_names())
