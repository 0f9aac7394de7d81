"""Where the tensors of a folder lie: its one safetensors file, or its shards and the index over them."""

import json
from pathlib import Path
from typing import Any

from vq_core.errors import VqError
from vq_core.tensor_file import TensorInfo, read_header

INDEX_FILE = "diffusion_pytorch_model.safetensors.index.json"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in `path`.

    Raises:
        VqError: the file is missing, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VqError(f"{path} is missing: give a whole model folder.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise VqError(f"{path} is not JSON ({error}): get it again.") from None
    if not isinstance(content, dict):
        raise VqError(f"{path} is not a JSON object: get it again.")
    return content


def index_tensors(folder: Path) -> tuple[dict[str, Path], dict[str, TensorInfo]]:
    """File and header entry of every tensor in `folder`, following its index where it is sharded.

    Raises:
        VqError: no safetensors file, a shard that is missing or damaged, a tensor that is twice there or not there.
    """
    if (folder / INDEX_FILE).exists():
        weight_map: dict[str, str] = read_json(folder / INDEX_FILE).get("weight_map", {})
        if not weight_map:
            raise VqError(f"{folder / INDEX_FILE} has no weight_map: get it again.")
        paths = [folder / file for file in sorted(set(weight_map.values()))]
    else:
        weight_map = {}
        paths = sorted(folder.glob("*.safetensors"))
    if not paths:
        raise VqError(f"{folder} holds no safetensors file: give a folder with the weights as safetensors.")
    files: dict[str, Path] = {}
    infos: dict[str, TensorInfo] = {}
    for path in paths:
        for name, info in read_header(path).items():
            if name in infos and not weight_map:
                raise VqError(
                    f"`{name}` is in {files[name].name} and in {path.name} of {folder}: remove the stale file."
                )
            if weight_map.get(name, path.name) == path.name:
                files[name], infos[name] = path, info
    if lost := sorted(set(weight_map) - set(infos)):
        raise VqError(
            f"`{lost[0]}` is not in {weight_map[lost[0]]} of {folder}, where the index says it is: get it again."
        )
    return files, infos
