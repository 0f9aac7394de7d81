import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import get_ffmpeg_exe
from skimage.metrics import structural_similarity

from vq_core.artifacts.videos import FORMAT, KIND
from vq_core.errors import GateFailed, VqError
from vq_core.media.video import read_video, write_video
from vq_core.store.writer import Header, create_artifact
from vq_eval.compare.compare import compare
from vq_eval.compare.compared_folders import entries_of
from vq_eval.compare.gate import enforce
from vq_eval.compare.limits import Limit
from vq_eval.compare.schema import CompareReport

MakeFolder = Callable[[str, dict[str, np.ndarray]], Path]

CHEAP = "psnr,frame_difference,flicker"


def _compare(output: Path, reference: Path, *candidates: str | Path, metrics: str = CHEAP) -> CompareReport:
    return compare(entries_of(reference, list(map(str, candidates)), None), output, metrics=metrics)


def test_rows_stand_together_with_the_floor_first(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray, noisy: np.ndarray
) -> None:
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip})
    floor = make_folder("f", {"sea.mkv": clip, "cat.mkv": clip ^ 1})
    candidate = make_folder("b", {"sea.mkv": noisy, "cat.mkv": clip})
    entries = entries_of(reference, [str(candidate), f"same={reference}"], floor)
    report = compare(entries, tmp_path / "new" / "report", metrics=CHEAP)
    assert [(row.name, row.role, row.identical_videos) for row in report.rows] == [
        ("floor", "floor", 1),
        ("b", "candidate", 1),
        ("same", "candidate", 2),
    ]
    assert [video.name for video in report.videos] == ["cat", "sea"]
    assert [video.name for video in report.rows[1].videos] == ["cat", "sea"]
    assert list(report.metrics) == CHEAP.split(",")
    assert report.rows[1].overall["psnr"].worst_video == "sea"
    assert report.rows[2].overall["psnr"].mean is None
    assert report.reference.overall.keys() == {"flicker"}
    assert report.verdict == "no gate"
    written = (tmp_path / "new" / "report" / "compare.json").read_text()
    assert CompareReport.model_validate_json(written) == report


def test_lower_is_worse_or_better_as_the_metric_has_it(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray, noisy: np.ndarray
) -> None:
    reference = make_folder("a", {"good.mkv": clip, "bad.mkv": clip})
    candidate = make_folder("b", {"good.mkv": clip ^ 1, "bad.mkv": noisy})
    (row,) = _compare(tmp_path / "report", reference, candidate).rows
    assert {overall.worst_video for overall in row.overall.values()} == {"bad"}
    figures = [video.figures["frame_difference"].video or 0 for video in row.videos]
    assert row.overall["frame_difference"].worst == max(figures)
    assert row.overall["frame_difference"].mean == pytest.approx(sum(figures) / 2)
    low, high = row.overall["frame_difference"].interval or (np.nan, np.nan)
    assert min(figures) <= low <= high <= max(figures)


def test_videos_of_another_length_than_their_manifest_says_are_refused(
    tmp_path: Path, clip: np.ndarray, make_folder: MakeFolder
) -> None:
    header = Header(KIND, FORMAT, "vq test", "wan", "model", {}, {"num_frames": len(clip) + 1}, {})
    with create_artifact(tmp_path / "made", header) as writer:
        write_video(writer.draft("full/sea.mkv"), clip, 16)
        writer.adopt("full/sea.mkv")
    plain = make_folder("a", {"sea.mkv": clip})
    for reference, candidate in ((plain, tmp_path / "made" / "full"), (tmp_path / "made" / "full", plain)):
        with pytest.raises(VqError, match=f"sea.mkv has {len(clip)} frames, and {len(clip) + 1} by its manifest"):
            _compare(tmp_path / "report", reference, candidate)


def test_two_runs_give_the_same_report(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray, noisy: np.ndarray
) -> None:
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip})
    candidate = make_folder("b", {"sea.mkv": noisy, "cat.mkv": clip ^ 3})
    reports = [_compare(tmp_path / name, reference, candidate, metrics="all") for name in ("one", "two")]
    assert reports[0] == reports[1]


def test_what_does_not_suit_the_videos_is_left_out_with_the_reason(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray
) -> None:
    folder = make_folder("a", {"sea.mkv": clip})
    report = _compare(tmp_path / "report", folder, f"b={folder}", metrics="psnr,ms_ssim")
    assert list(report.metrics) == ["psnr"]
    assert report.unavailable == {"ms_ssim": "it needs at least 176x176 pixels, and the video has 32x48"}
    with pytest.raises(VqError, match="No metric suits these videos; of `sea`: ms_ssim: it needs at least 176x176"):
        _compare(tmp_path / "other", folder, f"b={folder}", metrics="ms_ssim")


def test_what_suits_one_of_the_videos_is_measured_there(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray
) -> None:
    folder = make_folder("a", {"sea.mkv": clip, "still.mkv": clip[:1]})
    report = _compare(tmp_path / "report", folder, f"b={folder}")
    assert [set(video.unavailable) for video in report.videos] == [set(), {"frame_difference", "flicker"}]
    assert [set(video.figures) for video in report.rows[0].videos] == [set(report.metrics), {"psnr"}]
    assert report.rows[0].overall["flicker"].worst_video == "sea"


# --- an independent computation -------------------------------------------------------------------


def _by_ffmpeg(measure: str, candidate: Path, reference: Path) -> float:
    """What ffmpeg's own filter says of two files, over all frames, in RGB."""
    graph = f"[0:v]format=gbrp[a];[1:v]format=gbrp[b];[a][b]{measure}"
    command = [get_ffmpeg_exe(), "-nostdin", "-i", candidate, "-i", reference, "-lavfi", graph, "-f", "null", "-"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    found = re.search(r"average:([\d.]+)" if measure == "psnr" else r"All:([\d.]+)", said)
    assert found is not None, said
    return float(found[1])


@pytest.mark.parametrize(("suffix", "tolerance_db"), [("mkv", 1e-5), ("mp4", 0.02)])
def test_psnr_is_what_ffmpeg_says_of_the_same_files(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray, noisy: np.ndarray, suffix: str, tolerance_db: float
) -> None:
    reference = make_folder("a", {f"sea.{suffix}": clip})
    candidate = make_folder("b", {f"sea.{suffix}": noisy})
    (row,) = _compare(tmp_path / "report", reference, candidate).rows
    expected = _by_ffmpeg("psnr", candidate / f"sea.{suffix}", reference / f"sea.{suffix}")
    assert row.videos[0].figures["psnr"].video == pytest.approx(expected, abs=tolerance_db)


def test_ssim_is_what_scikit_image_says_of_the_same_files_and_near_ffmpeg_s(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray, noisy: np.ndarray
) -> None:
    reference, candidate = make_folder("a", {"sea.mkv": clip}), make_folder("b", {"sea.mkv": noisy})
    (row,) = _compare(tmp_path / "report", reference, candidate, metrics="ssim").rows
    figures = row.videos[0].figures["ssim"]
    pairs = zip(read_video(reference / "sea.mkv"), read_video(candidate / "sea.mkv"), strict=True)
    parameters = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    expected = [structural_similarity(*pair, channel_axis=-1, **parameters) for pair in pairs]
    assert figures.per_frame == pytest.approx(expected, abs=2e-5)
    # ffmpeg's filter averages uniform windows of 8x8 at every fourth pixel: another measure of the same thing.
    nearby = _by_ffmpeg("ssim", candidate / "sea.mkv", reference / "sea.mkv")
    assert figures.video == pytest.approx(nearby, abs=0.03)


# --- injected damage ------------------------------------------------------------------------------


@pytest.fixture
def gate() -> list[Limit]:
    return [Limit("psnr", "worst", 30.0, "gate.yaml"), Limit("frame_difference", "worst", 5.0, "gate.yaml")]


def _reordered(video: np.ndarray) -> np.ndarray:
    return video[[0, 2, 1, 3]]


def _half_noise(video: np.ndarray) -> np.ndarray:
    damaged = video.copy()
    half = len(video) // 2
    damaged[half:] = np.random.default_rng(3).integers(0, 256, damaged[half:].shape, dtype=np.uint8)
    return damaged


def _drifting(video: np.ndarray) -> np.ndarray:
    """Brighter by little from frame to frame: far in PSNR, steady in time."""
    return (video + np.arange(0, 16, 4, dtype=np.uint8).reshape(4, 1, 1, 1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("damage", "failing"),
    [(_reordered, {"psnr", "frame_difference"}), (_half_noise, {"psnr", "frame_difference"}), (_drifting, {"psnr"})],
)
def test_damage_to_a_video_changes_the_verdict(
    make_folder: MakeFolder,
    tmp_path: Path,
    clip: np.ndarray,
    gate: list[Limit],
    damage: Callable[[np.ndarray], np.ndarray],
    failing: set[str],
) -> None:
    near = clip + np.random.default_rng(4).integers(0, 3, clip.shape, dtype=np.uint8)
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip})
    sound = make_folder("sound", {"sea.mkv": near, "cat.mkv": near})
    hurt = make_folder("hurt", {"sea.mkv": near, "cat.mkv": damage(near)})
    fine = compare(entries_of(reference, [str(sound)], None), tmp_path / "fine", gate, metrics=CHEAP)
    assert fine.verdict == "passed"
    enforce(fine)
    report = compare(entries_of(reference, [str(sound), str(hurt)], None), tmp_path / "report", gate, metrics=CHEAP)
    assert report.verdict == "failed"
    assert {(it.row, it.metric, it.video) for it in report.gates if not it.passed} == {
        ("hurt", metric, "cat") for metric in failing
    }
    with pytest.raises(GateFailed, match="PSNR of `hurt`, video `cat`, is"):
        enforce(report)


def test_noise_in_half_of_a_video_is_found_frame_by_frame(
    make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray
) -> None:
    reference, hurt = make_folder("a", {"sea.mkv": clip}), make_folder("b", {"sea.mkv": _half_noise(clip)})
    (row,) = _compare(tmp_path / "report", reference, hurt).rows
    per_frame = row.videos[0].figures["psnr"].per_frame
    assert per_frame[:2] == (None, None)
    assert all(figure is not None and figure < 15 for figure in per_frame[2:])


# --- refusals -------------------------------------------------------------------------------------


def test_a_file_that_is_no_video_is_refused(make_folder: MakeFolder, tmp_path: Path, clip: np.ndarray) -> None:
    reference, candidate = make_folder("a", {"sea.mkv": clip}), make_folder("b", {})
    (candidate / "sea.mkv").write_text("no video")
    with pytest.raises(VqError, match=r"sea\.mkv is not a video"):
        _compare(tmp_path / "report", reference, candidate)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_what_cannot_succeed_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    entries = entries_of(tmp_path / "nowhere", [str(tmp_path / "neither")], None)
    limit = Limit("ssim", "worst", 0.9, "--min-ssim 0.9")
    with pytest.raises(VqError, match="--min-ssim 0.9 limits `ssim`, which is not measured"):
        compare(entries, tmp_path / "report", [limit], metrics="psnr")
    (tmp_path / "report").mkdir()
    with pytest.raises(VqError, match="report exists already"):
        compare(entries, tmp_path / "report", metrics=CHEAP)
