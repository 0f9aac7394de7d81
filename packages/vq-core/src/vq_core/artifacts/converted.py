"""Converted checkpoints, whichever runtime they were written for."""

from pathlib import Path

from vq_core.artifacts import checkpoint, comfyui_checkpoint
from vq_core.artifacts.checkpoint import ConvertedCheckpoint, open_checkpoint
from vq_core.artifacts.comfyui_checkpoint import NATIVE_KIND, open_comfyui_checkpoint
from vq_core.remote.location import Location
from vq_core.remote.transfer import local_copy
from vq_core.store.manifest import FILE_NAME, Manifest, kind_of, read_manifest

FILE_PER_TRANSFORMER = (comfyui_checkpoint.KIND, NATIVE_KIND)


def open_converted(location: Location) -> ConvertedCheckpoint:
    """Open the checkpoint at `location`.

    Raises:
        VqError: see `vq_core.store.reader.open_artifact`.
    """
    kind = kind_of(local_copy(location, only=[FILE_NAME]))
    if kind in FILE_PER_TRANSFORMER:
        return open_comfyui_checkpoint(location, str(kind))
    return open_checkpoint(location)


def converted_manifest(folder: Path) -> Manifest:
    """The manifest of the checkpoint in `folder`.

    Raises:
        VqError: see `vq_core.store.manifest.read_manifest`.
    """
    kind = kind_of(folder)
    if kind in FILE_PER_TRANSFORMER:
        return read_manifest(folder, str(kind), comfyui_checkpoint.FORMATS[str(kind)])
    return read_manifest(folder, checkpoint.KIND, checkpoint.FORMAT)
