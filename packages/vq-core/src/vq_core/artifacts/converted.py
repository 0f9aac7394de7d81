"""Converted checkpoints, whichever runtime they were written for."""

from pathlib import Path

from vq_core.artifacts import checkpoint, comfyui_checkpoint
from vq_core.artifacts.checkpoint import ConvertedCheckpoint, open_checkpoint
from vq_core.artifacts.comfyui_checkpoint import open_comfyui_checkpoint
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy
from vq_core.store.manifest import FILE_NAME, Manifest, kind_of, read_manifest


def open_converted(location: Location) -> ConvertedCheckpoint:
    """Open the checkpoint at `location`.

    Raises:
        VqError: see `vq_core.store.reader.open_artifact`.
    """
    if _is_for_comfyui(local_copy(location, only=[FILE_NAME])):
        return open_comfyui_checkpoint(location)
    return open_checkpoint(location)


def converted_manifest(folder: Path) -> Manifest:
    """The manifest of the checkpoint in `folder`.

    Raises:
        VqError: see `vq_core.store.manifest.read_manifest`.
    """
    kind = comfyui_checkpoint if _is_for_comfyui(folder) else checkpoint
    return read_manifest(folder, kind.KIND, kind.FORMAT)


def _is_for_comfyui(folder: Path) -> bool:
    return kind_of(folder) == comfyui_checkpoint.KIND
