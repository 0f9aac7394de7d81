import json
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from vq_core.errors import VqError
from vq_eval.compare_report import CompareReport, Figure, VideoComparison, summary_rows, to_markdown, write_report


def _video(name: str, psnr_db: float | None, *, lossless: bool = True) -> VideoComparison:
    suffix = "mkv" if lossless else "mp4"
    return VideoComparison(
        name=name,
        reference=f"{name}.{suffix}",
        candidate=f"{name}.{suffix}",
        lossless=lossless,
        identical=psnr_db is None,
        frames=2,
        height=480,
        width=832,
        figures={"psnr": Figure(video=psnr_db, per_frame=(psnr_db, None))},
    )


def _report(*videos: VideoComparison) -> CompareReport:
    return CompareReport.of_videos(Path("ref"), Path("cand"), {"psnr": 20.0}, videos)


@pytest.fixture
def report() -> CompareReport:
    return _report(_video("cat", 30.0), _video("fog", None), _video("sea", 40.0))


def test_the_overall_mean_is_over_the_videos_that_differ(report: CompareReport) -> None:
    overall = report.overall["psnr"]
    assert (overall.mean, overall.worst, overall.worst_video) == (35.0, 30.0, "cat")
    assert report.identical_videos == 1


def test_identical_videos_alone_have_no_mean() -> None:
    overall = _report(_video("cat", None), _video("sea", None)).overall["psnr"]
    assert (overall.mean, overall.worst, overall.worst_video) == (None, None, "cat")


def test_the_json_is_strict_and_names_its_format(report: CompareReport, tmp_path: Path) -> None:
    write_report(report, tmp_path / "report")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    written = json.loads((tmp_path / "report" / "compare.json").read_text(), parse_constant=refuse)
    assert (written["kind"], written["format"]) == ("compare-report", 1)
    assert written["tool"].startswith("vq-eval ")
    assert written["minima"] == {"psnr": 20.0}
    assert written["videos"][1]["figures"]["psnr"] == {"video": None, "per_frame": [None, None]}
    assert CompareReport.model_validate(written) == report


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_a_figure_that_json_cannot_hold_is_refused(figure: float) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Figure(video=figure, per_frame=())


def test_the_report_without_frames_keeps_all_else(report: CompareReport) -> None:
    short = report.without_frames()
    full = report.model_dump(mode="json")
    for video in full["videos"]:
        del video["figures"]["psnr"]["per_frame"]
    assert short == full


def test_the_markdown_table_has_every_video(report: CompareReport) -> None:
    lines = to_markdown(report).splitlines()
    assert "| video | frames | height x width | PSNR |" in lines
    assert "| cat | 2 | 480x832 | 30.00 dB |" in lines
    assert "| fog | 2 | 480x832 | identical |" in lines
    assert "| **mean** |  |  | 35.00 dB |" in lines
    assert "| **worst** |  |  | 30.00 dB |" in lines


def test_the_summary_names_the_worst_video(report: CompareReport) -> None:
    rows = summary_rows(report)
    assert rows["video sea"] == "PSNR 40.00 dB"
    assert rows["PSNR overall"] == "35.00 dB mean, 30.00 dB worst (cat)"
    assert rows["videos"] == "3 compared, 1 identical; all from lossless .mkv"


def test_the_summary_warns_of_lossy_videos() -> None:
    rows = summary_rows(_report(_video("cat", 30.0), _video("sea", 40.0, lossless=False)))
    assert rows["videos"].startswith("2 compared, 0 identical; 1 from .mp4, whose lossy coding distorts the figures")


def test_an_output_that_exists_is_refused_and_left_alone(report: CompareReport, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    with pytest.raises(VqError, match="report exists already: choose another --output or remove it"):
        write_report(report, tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_failed_write_leaves_nothing(report: CompareReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(_: CompareReport) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vq_eval.compare_report.to_markdown", no_space)
    with pytest.raises(OSError, match="No space"):
        write_report(report, tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


# Forks writers that kill themselves at each file-system call in turn, until one gets through.
KILLER = """
import itertools, os, signal, sys
from pathlib import Path
from vq_eval.compare_report import CompareReport, Figure, VideoComparison, write_report

video = VideoComparison(name="cat", reference="cat.mkv", candidate="cat.mkv", lossless=True, identical=False, frames=1,
                        height=64, width=64, figures={"psnr": Figure(video=30.0, per_frame=(30.0,))})
report = CompareReport.of_videos(Path("ref"), Path("cand"), {}, (video,))
root = Path(sys.argv[1])

def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}

def killed(call):
    child = os.fork()
    if child == 0:
        calls = itertools.count()
        def hook(event, args):
            if event in ("open", "os.mkdir", "os.rename", "os.rmdir", "os.remove") and next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        write_report(report, root / "report")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

write_report(report, root / "whole")
kills = 0
while killed(kills):
    if (root / "report").exists():
        assert content(root / "report") == content(root / "whole")
        (root / "report").rename(root / f"late-{kills}")
    kills += 1
assert content(root / "report") == content(root / "whole")
print(kills)
"""


def test_a_kill_leaves_no_report_or_a_whole_one(tmp_path: Path) -> None:
    command = [sys.executable, "-W", "ignore", "-c", KILLER, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 5
