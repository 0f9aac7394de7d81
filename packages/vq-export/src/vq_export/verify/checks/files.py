"""The files of a checkpoint: none too many, and each the shard that its metadata name."""

from collections.abc import Iterator
from pathlib import Path

from vq_core.artifacts.checkpoint import RUN_CONFIG_FOLDER, ConvertedCheckpoint
from vq_core.files.tensor_file import read_metadata
from vq_core.files.tensor_folder import INDEX_FILE
from vq_export.lightx2v.run_configs import RUN_SCRIPT
from vq_export.provenance import METADATA_KEY, read_provenance
from vq_export.verify.checks.configs import CONFIG_FILE


def file_problems(checkpoint: ConvertedCheckpoint) -> Iterator[str]:
    """Stray files, and shards whose metadata name another shard.

    LightX2V loads every safetensors file of a folder, and the last one wins: even a copy of a shard is a problem.

    Raises:
        VqError: a file without tensors was changed, or a file's metadata are damaged; files with tensors are checked
            as they are read.
    """
    known = {CONFIG_FILE, RUN_SCRIPT} | {f"{folder}{INDEX_FILE}" for folder in _folders(checkpoint).values()}
    shards = _shards(checkpoint)
    for file in checkpoint.artifact.manifest.files:
        if file not in known and file not in shards and not file.startswith(f"{RUN_CONFIG_FOLDER}/"):
            yield f"{checkpoint.artifact.path / file} is no part of a checkpoint."
        elif file not in shards:
            checkpoint.artifact.verify_file(file)
    for file, (component, shard) in shards.items():
        path = checkpoint.artifact.path / file
        if path.exists() and (said := _said(path)) not in (None, (component, shard)):
            yield f"{path} says that it is {said[1]} of {said[0]} and lies where {shard} of {component} belongs."


def file_warnings(checkpoint: ConvertedCheckpoint) -> Iterator[str]:
    """Shards that do not say how they were made."""
    silent = [file for file in _shards(checkpoint) if _said(checkpoint.artifact.path / file) is None]
    if silent:
        yield (
            f"{len(silent)} files do not say how they were quantized, {silent[0]} is the first: "
            "`vq-export show` cannot tell."
        )


def _folders(checkpoint: ConvertedCheckpoint) -> dict[str, str]:
    """Where each component's files lie: a prefix of their paths."""
    entries = checkpoint.artifact.manifest.components.items()
    return {name: f"{entry.folder}/" if entry.folder else "" for name, entry in entries}


def _shards(checkpoint: ConvertedCheckpoint) -> dict[str, tuple[str, str]]:
    """Component and shard that each safetensors file holds."""
    return {
        f"{_folders(checkpoint)[name]}{shard}.safetensors": (name, shard)
        for name, component in checkpoint.components.items()
        for shard in component.topology.shards()
    }


def _said(path: Path) -> tuple[str, str] | None:
    """Component and shard that the file's metadata name; None where they name none."""
    if METADATA_KEY not in read_metadata(path):
        return None
    content = read_provenance(path)
    return content["component"], content["shard"]
