"""The index over the safetensors files of a folder: which file holds which tensor."""

import json
from collections.abc import Iterable
from pathlib import Path

from vq_core.files.tensor_file import read_header
from vq_core.files.tensor_folder import INDEX_FILE
from vq_core.store.writer import ArtifactWriter


def write_index(writer: ArtifactWriter, folder: str, files: Iterable[str]) -> None:
    """Write the index of `folder` over its `files`, which are written; their paths are those inside the artifact."""
    headers = {Path(file).name: read_header(writer.path(file)) for file in files}
    size = sum(info.end - info.begin for header in headers.values() for info in header.values())
    weight_map = {tensor: file for file, header in headers.items() for tensor in header}
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    writer.write_text((Path(folder) / INDEX_FILE).as_posix(), json.dumps(index, indent=1) + "\n")
