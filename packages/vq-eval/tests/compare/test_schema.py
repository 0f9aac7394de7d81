import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from vq_core.errors import VqError
from vq_eval.compare.limits import Limit
from vq_eval.compare.schema import CompareReport, Figure, MetricInfo, Row, write_report
from vq_eval.metrics import load_metric


@pytest.fixture
def report(make_report: Callable[..., CompareReport], make_row: Callable[..., Row]) -> CompareReport:
    reference = make_row("reference", {"flicker": {"cat": 4.0, "fog": 4.0}}, "reference")
    row = make_row("int8", {"psnr": {"cat": 30.0, "fog": None}, "flicker": {"cat": 5.0, "fog": 4.0}})
    return make_report([reference, row], [Limit("psnr", "worst", 20.0, "--min-psnr 20")])


def test_the_mean_is_over_the_videos_that_differ(report: CompareReport) -> None:
    overall = report.rows[0].overall["psnr"]
    assert (overall.mean, overall.interval, overall.worst, overall.worst_video) == (30.0, None, 30.0, "cat")


def test_the_json_is_strict_and_names_its_format(report: CompareReport, tmp_path: Path) -> None:
    write_report(report, "# Comparison\n", tmp_path / "report")

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    written = json.loads((tmp_path / "report" / "compare.json").read_text(), parse_constant=refuse)
    assert (written["kind"], written["format"], written["verdict"]) == ("compare-report", 2, "passed")
    assert written["tool"].startswith("vq-eval ")
    assert written["rows"][0]["videos"][1]["figures"]["psnr"] == {"video": None, "per_frame": [None, None]}
    assert written["gates"][0]["rule"] == "--min-psnr 20"
    assert CompareReport.model_validate(written) == report
    assert (tmp_path / "report" / "compare.md").read_text() == "# Comparison\n"


@pytest.mark.parametrize("figure", [float("nan"), float("inf")])
def test_a_figure_that_json_cannot_hold_is_refused(figure: float) -> None:
    with pytest.raises(ValidationError, match="finite number"):
        Figure(video=figure, per_frame=())


def test_the_report_without_frames_keeps_all_else(report: CompareReport) -> None:
    short = report.without_frames()
    full = report.model_dump(mode="json")
    for row in (full["reference"], *full["rows"]):
        for video in row["videos"]:
            for figure in video["figures"].values():
                del figure["per_frame"]
    assert short == full


def test_a_metric_tells_its_unit_its_decimals_and_which_figure_is_worse() -> None:
    psnr = MetricInfo.of(load_metric("psnr"))
    assert psnr.text(31.2) == "31.20 dB"
    assert psnr.text(31.2, with_unit=False) == "31.20"
    assert psnr.text(None) == "identical"
    assert MetricInfo.of(load_metric("ssim")).text(0.5) == "0.5000"
    assert psnr.worse_by(28.0, 30.0) == 2.0
    assert MetricInfo.of(load_metric("flicker")).worse_by(28.0, 30.0) == -2.0


def test_an_output_that_exists_is_refused_and_left_alone(report: CompareReport, tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    with pytest.raises(VqError, match="report exists already: choose another --output or remove it"):
        write_report(report, "", tmp_path / "report")
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_failed_write_leaves_nothing(report: CompareReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vq_eval.compare.schema.publish", no_space)
    with pytest.raises(OSError, match="No space"):
        write_report(report, "", tmp_path / "report")
    assert list(tmp_path.iterdir()) == []


# Forks writers that kill themselves at each file-system call in turn, until one gets through.
KILLER = """
import itertools, os, signal, sys
from pathlib import Path
from typing import Any
from vq_eval.compare.schema import CompareReport, write_report

report = CompareReport.model_validate_json(sys.argv[2])
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
        write_report(report, "# Comparison", root / "report")
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

write_report(report, "# Comparison", root / "whole")
kills = 0
while killed(kills):
    if (root / "report").exists():
        assert content(root / "report") == content(root / "whole")
        (root / "report").rename(root / f"late-{kills}")
    kills += 1
assert content(root / "report") == content(root / "whole")
print(kills)
"""


def test_a_kill_leaves_no_report_or_a_whole_one(
    report: CompareReport, tmp_path: Path, start_code: Callable[[str], Any]
) -> None:
    done = start_code(f"import sys\nsys.argv = {['', str(tmp_path), report.model_dump_json()]}\n{KILLER}")
    assert done.ended(120) == 0, done.stderr
    assert int(done.stdout) >= 5
