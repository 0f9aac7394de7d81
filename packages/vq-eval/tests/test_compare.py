from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vq_core.errors import VqError
from vq_eval.compare import compare, match_videos
from vq_eval.compare_report import CompareReport

MakeFolder = Callable[[str, dict[str, np.ndarray]], Path]


def _mse_psnr_db(reference: np.ndarray, candidate: np.ndarray) -> float:
    return float(10 * np.log10(255.0**2 / np.mean((reference.astype(float) - candidate.astype(float)) ** 2)))


def test_a_lossless_pair_is_measured_from_its_own_pixels(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray, noisy: np.ndarray
) -> None:
    reference, candidate = make_folder("a", {"sea.mkv": clip}), make_folder("b", {"sea.mkv": noisy})
    report = compare(reference, candidate, tmp_path / "report", {})
    (video,) = report.videos
    assert (video.name, video.reference, video.candidate) == ("sea", "sea.mkv", "sea.mkv")
    assert (video.frames, video.height, video.width) == clip.shape[:3]
    assert video.lossless
    assert not video.identical
    figures = video.figures["psnr"]
    assert figures.video == pytest.approx(_mse_psnr_db(clip, noisy), abs=1e-4)
    expected = [_mse_psnr_db(*frames) for frames in zip(clip, noisy, strict=True)]
    assert figures.per_frame == pytest.approx(expected, abs=1e-4)
    assert len(video.figures["ssim"].per_frame) == len(clip)


def test_the_written_report_is_the_returned_one(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray, noisy: np.ndarray
) -> None:
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip})
    candidate = make_folder("b", {"sea.mkv": noisy, "cat.mkv": clip})
    report = compare(reference, candidate, tmp_path / "new" / "report", {"psnr": 30.0})
    written = (tmp_path / "new" / "report" / "compare.json").read_text()
    assert CompareReport.model_validate_json(written) == report
    assert report.minima == {"psnr": 30.0}


def test_identical_videos_have_no_finite_psnr(make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray) -> None:
    reference, candidate = make_folder("a", {"sea.mkv": clip}), make_folder("b", {"sea.mkv": clip})
    (video,) = compare(reference, candidate, tmp_path / "report", {}).videos
    assert video.identical
    assert video.figures["psnr"].video is None
    assert video.figures["psnr"].per_frame == (None,) * len(clip)
    assert video.figures["ssim"].video == pytest.approx(1.0, abs=1e-6)


def test_the_lossless_one_of_two_kinds_is_compared(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray, noisy: np.ndarray
) -> None:
    reference = make_folder("a", {"sea.mp4": noisy, "sea.mkv": clip})
    candidate = make_folder("b", {"sea.mkv": clip, "sea.mp4": noisy})
    (video,) = compare(reference, candidate, tmp_path / "report", {}).videos
    assert video.lossless
    assert video.identical


def test_a_lossy_pair_is_said_to_be_one(make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray) -> None:
    reference, candidate = make_folder("a", {"sea.mkv": clip}), make_folder("b", {"sea.mp4": clip})
    (video,) = compare(reference, candidate, tmp_path / "report", {}).videos
    assert not video.lossless
    assert video.candidate == "sea.mp4"


def test_videos_are_matched_by_stem_in_order(make_folder: MakeFolder, clip: np.ndarray) -> None:
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip})
    candidate = make_folder("b", {"cat.mp4": clip, "sea.mkv": clip})
    (candidate / ".sea.mp4").write_bytes(b"left by another program")
    (candidate / "samples.json").write_text("[]")
    assert [pair.name for pair in match_videos(reference, candidate)] == ["cat", "sea"]


def test_a_missing_folder_is_refused(make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray) -> None:
    reference = make_folder("a", {"sea.mkv": clip})
    with pytest.raises(VqError, match="nowhere is not a folder: give one with .mp4 or .mkv videos"):
        compare(reference, tmp_path / "nowhere", tmp_path / "report", {})


def test_a_folder_without_videos_is_refused(make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray) -> None:
    candidate = make_folder("b", {"sea.mkv": clip})
    with pytest.raises(VqError, match="a holds no .mp4 or .mkv video"):
        compare(make_folder("a", {}), candidate, tmp_path / "report", {})


def test_names_of_one_side_only_are_refused(make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray) -> None:
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip, "fog.mkv": clip})
    candidate = make_folder("b", {"sea.mkv": clip, "dog.mkv": clip})
    with pytest.raises(VqError, match=r"different videos, cat, fog only in \S*a and dog only in \S*b: give"):
        compare(reference, candidate, tmp_path / "report", {})


@pytest.mark.parametrize(
    ("cut", "said"),
    [
        ((slice(3),), "4 frames of 32x48 in .* and 3 frames of 32x48 in"),
        ((slice(None), slice(16)), "4 frames of 32x48 in .* and 4 frames of 16x48 in"),
    ],
)
def test_different_shapes_are_refused(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray, cut: tuple[slice, ...], said: str
) -> None:
    reference, candidate = make_folder("a", {"sea.mkv": clip}), make_folder("b", {"sea.mkv": clip[cut]})
    with pytest.raises(VqError, match=f"`sea` has {said}"):
        compare(reference, candidate, tmp_path / "report", {})


def test_videos_smaller_than_a_metric_needs_are_refused(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray
) -> None:
    small = clip[:, :8]
    reference, candidate = make_folder("a", {"sea.mkv": small}), make_folder("b", {"sea.mkv": small})
    with pytest.raises(VqError, match="`sea` in .* is 8x48 and SSIM needs at least 11x11 pixels"):
        compare(reference, candidate, tmp_path / "report", {})


def test_a_file_that_is_no_video_is_refused(make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray) -> None:
    reference, candidate = make_folder("a", {"sea.mkv": clip}), make_folder("b", {})
    (candidate / "sea.mkv").write_text("no video")
    with pytest.raises(VqError, match=r"sea\.mkv is not a video"):
        compare(reference, candidate, tmp_path / "report", {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_an_output_that_exists_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    with pytest.raises(VqError, match="report exists already"):
        compare(tmp_path / "nowhere", tmp_path / "nowhere", tmp_path / "report", {})


def test_a_minimum_that_is_no_number_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    with pytest.raises(VqError, match="--min-ssim nan"):
        compare(tmp_path / "nowhere", tmp_path / "nowhere", tmp_path / "report", {"ssim": float("nan")})
