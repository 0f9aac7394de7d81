"""Where the tensors of a folder lie: its one safetensors file, or its shards and the index over them."""

import logging
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from vq_core.errors import VqError
from vq_core.files.buffers import Buffers
from vq_core.files.folder_content import is_file_name
from vq_core.files.given_file import is_there
from vq_core.files.json_file import read_json
from vq_core.files.weights_file import OpenWeights, SafetensorsFile, WeightsFile

logger = logging.getLogger(__name__)

INDEX_FILE = "diffusion_pytorch_model.safetensors.index.json"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")


def index_tensors(folder: Path) -> dict[str, WeightsFile]:
    """The file of every tensor in `folder`, following its index where it is sharded.

    Raises:
        VqError: no safetensors file, a shard that is missing or damaged, a tensor that is twice there or not there.
    """
    if is_there(folder / INDEX_FILE):
        return _indexed(folder)
    paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise VqError(f"{folder} holds no safetensors file: give a folder with the weights as safetensors.")
    return gather_tensors(paths)


def gather_tensors(paths: Iterable[Path], open_file: OpenWeights | None = None) -> dict[str, WeightsFile]:
    """The file of every tensor in the files `paths`, which no index describes; `open_file` opens other formats.

    Raises:
        VqError: a shard is missing or damaged, or a tensor is in two of them.
    """
    paths = list(paths)
    _require_all_shards(paths)
    files: dict[str, WeightsFile] = {}
    for file in map(open_file or partial(SafetensorsFile, buffers=Buffers()), paths):
        for name in file.infos:
            if name in files:
                raise VqError(
                    f"`{name}` is in {files[name].path.name} and in {file.path.name} of {file.path.parent}, and "
                    "nothing says which counts: give the file that you mean; two experts need a folder each."
                )
            files[name] = file
    return files


def is_shard(path: Path) -> bool:
    """Is the file `path` numbered as one of several shards?"""
    shard = _SHARD.fullmatch(path.name)
    return shard is not None and int(shard["count"]) > 1


def stem_of(path: Path) -> str:
    """The name of the file `path` without suffix and number, which all shards of a model share."""
    shard = _SHARD.fullmatch(path.name)
    return shard["stem"] if shard is not None else path.stem


def indexed_files(index: Path) -> dict[str, str]:
    """The name of the file beside `index` in which each tensor is.

    Raises:
        VqError: it is damaged, or names anything but files beside it.
    """
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise VqError(f"{index} has no weight_map: get it again.")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not is_file_name(file):
            raise VqError(
                f"{index} says that `{name}` is in {str(file)[:80]!r}, which is no file beside it: get it again."
            )
    return weight_map


def _indexed(folder: Path) -> dict[str, WeightsFile]:
    weight_map = indexed_files(folder / INDEX_FILE)
    buffers = Buffers()
    shards = {name: SafetensorsFile(folder / name, buffers) for name in sorted(set(weight_map.values()))}
    files: dict[str, WeightsFile] = {}
    for shard, file in shards.items():
        files |= {name: file for name in file.infos if weight_map.get(name, shard) == shard}
    if lost := sorted(set(weight_map) - set(files)):
        raise VqError(
            f"`{lost[0]}` is not in {weight_map[lost[0]]} of {folder}, where the index says it is: get it again."
        )
    if ignored := [path.name for path in sorted(folder.glob("*.safetensors")) if path.name not in shards]:
        logger.warning("%s: the index does not name %s, and the model is read without.", folder, ", ".join(ignored))
    return files


def _require_all_shards(paths: Iterable[Path]) -> None:
    """Refuse shards that are numbered and of which one is missing: nothing else tells that the model is not whole."""
    present = set(paths)
    for path in sorted(present):
        if shard := _SHARD.fullmatch(path.name):
            for number in range(1, int(shard["count"]) + 1):
                other = path.with_name(f"{shard['stem']}-{number:05}-of-{shard['count']}{shard['suffix']}")
                if other not in present:
                    raise VqError(f"{other} is missing: get it again or check the folder.")
