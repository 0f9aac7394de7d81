"""The index over the safetensors files of a folder: which file holds which tensor."""

import json
from collections.abc import Mapping
from pathlib import Path

from vq_core.files.tensor_file import read_header
from vq_core.files.tensor_folder import INDEX_FILE
from vq_core.store.writer import ArtifactWriter


def write_index(writer: ArtifactWriter, folder: str, weight_map: Mapping[str, str]) -> None:
    """Write the index of `folder`, whose files are written; `weight_map` names the file of every tensor."""
    headers = (read_header(writer.path((Path(folder) / file).as_posix())) for file in sorted(set(weight_map.values())))
    size = sum(info.end - info.begin for header in headers for info in header.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    writer.write_text((Path(folder) / INDEX_FILE).as_posix(), json.dumps(index, indent=1) + "\n")
