import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from vq_core.errors import VqError
from vq_eval.metrics import Clip, vmaf

MakeFolder = Callable[[str, dict[str, np.ndarray]], Path]


def test_equal_videos_are_near_a_hundred_whatever_their_container(large: list[Clip], make_folder: MakeFolder) -> None:
    folder = make_folder("videos", {"a.mkv": large[0].frames, "b.mp4": large[0].frames})
    reference, candidate = (replace(large[0], path=folder / name) for name in ("a.mkv", "b.mp4"))
    assert min(vmaf.measure(reference, reference)) > 97
    assert min(vmaf.measure(reference, candidate)) > 90


def test_an_ffmpeg_without_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert vmaf.missing() is None
    bare = subprocess.CompletedProcess([], 0, stdout=" TS psnr  VV->V  Calculate the PSNR.\n", stderr="")
    monkeypatch.setattr(vmaf, "_ffmpeg", lambda *_, **__: bare)
    assert vmaf.missing() == (
        "the ffmpeg of imageio-ffmpeg has no filter libvmaf: let IMAGEIO_FFMPEG_EXE name one that has"
    )


def test_what_ffmpeg_says_is_told(large: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "broken.mkv").write_text("no video")
    broken = replace(large[0], path=tmp_path / "broken.mkv")
    with pytest.raises(VqError, match=r"broken\.mkv failed \(Error opening .*: Invalid data .*\): leave it out of"):
        vmaf.measure(broken, broken)


def test_frames_that_it_did_not_see_are_told(large: list[Clip], make_folder: MakeFolder) -> None:
    folder = make_folder("videos", {"a.mkv": large[0].frames[:2]})
    short = replace(large[0], path=folder / "a.mkv")
    with pytest.raises(VqError, match=r"VMAF saw 2 of 3 frames of .*a\.mkv"):
        vmaf.measure(short, short)
