from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vq_core.errors import VqError
from vq_eval.compare.measure import Reference, open_reference
from vq_eval.compare.provenance import Asked
from vq_eval.metrics import load_metric

MakeFolder = Callable[[str, dict[str, np.ndarray]], Path]

METRICS = {name: load_metric(name) for name in ("psnr", "ms_ssim", "flicker")}


def _open(path: Path) -> Reference:
    return open_reference("sea", path, Asked("a boat", "blur", 7), METRICS, "cpu")


def test_what_videos_of_a_name_have_in_common(make_folder: MakeFolder, clip: np.ndarray) -> None:
    info = _open(make_folder("a", {"sea.mkv": clip}) / "sea.mkv").info
    assert (info.name, info.frames, info.height, info.width) == ("sea", 4, 32, 48)
    assert (info.prompt, info.negative_prompt, info.seed) == ("a boat", "blur", 7)
    assert info.unavailable == {"ms_ssim": "it needs at least 176x176 pixels, and the video has 32x48"}


def test_a_video_is_measured_from_its_own_pixels(make_folder: MakeFolder, clip: np.ndarray, noisy: np.ndarray) -> None:
    folder = make_folder("a", {"sea.mkv": clip, "noisy.mkv": noisy})
    measured = _open(folder / "sea.mkv").measure(folder / "noisy.mkv")
    assert (measured.name, measured.file, measured.lossless, measured.identical) == ("sea", "noisy.mkv", True, False)
    assert measured.figures.keys() == {"psnr", "flicker"}
    mse = ((clip.astype(float) - noisy) ** 2).mean(axis=(1, 2, 3))
    assert measured.figures["psnr"].per_frame == pytest.approx(10 * np.log10(255**2 / mse), abs=1e-4)
    assert measured.figures["psnr"].video == pytest.approx(10 * np.log10(255**2 / mse.mean()), abs=1e-4)
    assert len(measured.figures["flicker"].per_frame) == len(clip) - 1


def test_a_video_of_another_length_than_its_manifest_says_is_refused(make_folder: MakeFolder, clip: np.ndarray) -> None:
    path = make_folder("a", {"sea.mkv": clip}) / "sea.mkv"
    reference = open_reference("sea", path, Asked(), METRICS, "cpu", 4)
    assert reference.measure(path, 4).identical
    for measure in (lambda: reference.measure(path, 5), lambda: open_reference("sea", path, Asked(), {}, "cpu", 5)):
        with pytest.raises(VqError, match=r"sea\.mkv has 4 frames, and 5 by its manifest: make or copy the videos"):
            measure()


def test_a_lossy_pair_is_said_to_be_one(make_folder: MakeFolder, clip: np.ndarray) -> None:
    folder = make_folder("a", {"sea.mkv": clip, "sea.mp4": clip})
    assert not _open(folder / "sea.mkv").measure(folder / "sea.mp4").lossless


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        ((slice(3),), "4 frames of 32x48 in .* and 3 frames of 32x48 in"),
        ((slice(None), slice(16)), "4 frames of 32x48 in .* and 4 frames of 16x48 in"),
    ],
)
def test_different_shapes_are_refused(
    make_folder: MakeFolder, clip: np.ndarray, cut: tuple[slice, ...], said: str
) -> None:
    folder = make_folder("a", {"sea.mkv": clip, "cut.mkv": clip[cut]})
    with pytest.raises(VqError, match=f"`sea` has {said}"):
        _open(folder / "sea.mkv").measure(folder / "cut.mkv")
