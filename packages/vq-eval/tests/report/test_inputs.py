import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_eval.compare.schema import CompareReport
from vq_eval.report.inputs import folder_of, read_inputs


def test_layers_belong_to_the_row_that_was_made_from_the_same_artifacts(world: Any) -> None:
    inputs = read_inputs(world.comparison, world.trajectory, [world.layers])
    assert list(inputs.layers) == ["int8 auto"]
    assert inputs.trajectory is not None
    assert [it.name for it in inputs.trajectory.candidates] == ["floor", "int8 rtn", "int8 auto"]


def test_layers_of_another_candidate_have_its_name(world: Any, tmp_path: Path) -> None:
    content = json.loads((world.comparison / "compare.json").read_text())
    content["rows"] = content["rows"][:2]
    (tmp_path / "compare.json").write_text(json.dumps(content))
    assert list(read_inputs(tmp_path, None, [world.layers]).layers) == ["qparams"]


def test_refuses_layers_of_one_candidate_twice(world: Any) -> None:
    with pytest.raises(VqError, match="is about int8 auto, as another of --layers is"):
        read_inputs(world.comparison, None, [world.layers, world.layers])


def test_refuses_a_folder_without_a_comparison(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"compare\.json is missing: give the folder that `vq-eval compare` has written"):
        read_inputs(tmp_path, None, [])


def test_refuses_a_comparison_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "compare.json").write_text('{"kind": "compare-report", "format": 1}')
    with pytest.raises(VqError, match=r"is not what this version of `vq-eval compare` writes \(format: "):
        read_inputs(tmp_path, None, [])


def test_refuses_a_trajectory_that_was_altered(world: Any, tmp_path: Path) -> None:
    copy = tmp_path / "drift"
    shutil.copytree(world.trajectory, copy)
    text = (copy / "trajectory.json").read_text()
    (copy / "trajectory.json").write_text(text.replace("0.001", "0.002"))
    with pytest.raises(VqError, match="is not the file that was written"):
        read_inputs(world.comparison, copy, [])


def test_refuses_videos_that_are_gone(compared: CompareReport) -> None:
    gone = compared.rows[2].model_copy(update={"folder": "/nowhere"})
    with pytest.raises(VqError, match="The videos of `int8 auto` are no longer at /nowhere"):
        folder_of(gone)


def test_refuses_videos_that_were_made_anew(compared: CompareReport) -> None:
    auto = compared.rows[2]
    assert auto.provenance is not None
    other = auto.model_copy(update={"provenance": auto.provenance.model_copy(update={"digest": "0" * 64})})
    with pytest.raises(VqError, match="are not those that were compared: compare them again"):
        folder_of(other)
    assert folder_of(auto) == Path(auto.folder)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_refuses_a_video_that_was_altered_since(compared: CompareReport, tmp_path: Path, suffix: str) -> None:
    auto = compared.rows[2]
    assert auto.provenance is not None
    shutil.copytree(auto.provenance.path, tmp_path / "copy")
    copied = auto.provenance.model_copy(update={"path": str(tmp_path / "copy")})
    row = auto.model_copy(update={"folder": str(tmp_path / "copy" / "full"), "provenance": copied})
    assert folder_of(row) == tmp_path / "copy" / "full"
    video = (tmp_path / "copy" / "full" / row.videos[0].file).with_suffix(suffix)
    video.write_bytes(video.read_bytes() + b"x")
    with pytest.raises(VqError, match=f"{video.name} is not the file that was written"):
        folder_of(row)
    if suffix == ".mkv":  # what was known when they were compared is shown, not refused
        known = copied.model_copy(update={"altered": (video.name,)})
        folder_of(row.model_copy(update={"provenance": known}))
