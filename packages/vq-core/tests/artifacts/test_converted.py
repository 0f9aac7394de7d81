"""Checkpoints are opened by what their manifest says they are."""

from pathlib import Path

import pytest

from vq_core.artifacts import checkpoint, comfyui_checkpoint
from vq_core.artifacts.comfyui_checkpoint import NATIVE_KIND, ComfyuiCheckpoint
from vq_core.artifacts.converted import converted_manifest, open_converted
from vq_core.errors import VqError
from vq_core.store.writer import Header, create_artifact


def make(path: Path, kind: str) -> Path:
    fmt = comfyui_checkpoint.FORMATS.get(kind, checkpoint.FORMAT)
    with create_artifact(path, Header(kind, fmt, "t", "wan", "m", {}, {"scheme": "int8", "gains": False})):
        pass
    return path


@pytest.mark.parametrize(
    ("kind", "for_comfyui"), [(checkpoint.KIND, False), (comfyui_checkpoint.KIND, True), (NATIVE_KIND, True)]
)
def test_every_kind_of_checkpoint_is_opened(tmp_path: Path, kind: str, for_comfyui: bool) -> None:
    path = make(tmp_path / "made", kind)
    opened = open_converted(path)
    assert opened.artifact.manifest.kind == converted_manifest(path).kind == kind
    assert isinstance(opened, ComfyuiCheckpoint) is for_comfyui
    if isinstance(opened, ComfyuiCheckpoint):
        assert opened.native is (kind == NATIVE_KIND)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    path = make(tmp_path / "made", "quant-params")
    for read in (open_converted, converted_manifest):
        with pytest.raises(VqError, match="holds quant-params, and lightx2v-checkpoint is needed here"):
            read(path)
