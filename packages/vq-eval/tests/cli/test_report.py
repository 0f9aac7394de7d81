import json
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_eval.cli import app


def run(*arguments: object) -> None:
    app(["report", *map(str, arguments)], standalone_mode=False)


def test_says_what_is_missing() -> None:
    with pytest.raises(VqError, match="`--comparison` is missing"):
        run("-o", "page")


def test_says_where_the_page_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from vq_eval.report import build
    from vq_eval.report.verdict import ReportVerdict
    from vq_eval.report.words import say

    asked: dict[str, Any] = {}

    def make_report(comparison: object, output: Path, **options: Any) -> build.Report:
        asked.update(options, comparison=str(comparison))
        verdict = ReportVerdict("ship", say("headline_ship", name="INT8"), (), (), (), "psnr")
        return build.Report(output / "index.html", verdict, 10)

    monkeypatch.setattr(build, "make_report", make_report)
    layers = ("--layers", "a", "--layers", "b", "--no-lossless-frames")
    run("--comparison", "compared", *layers, "-o", tmp_path / "page", "--json")
    result = json.loads(capsys.readouterr().out)
    assert (result["headline"], result["page"]) == ("Ship INT8", str(tmp_path / "page" / "index.html"))
    assert asked["comparison"] == "compared"
    assert [str(it) for it in asked["layers"]] == ["a", "b"]
    assert asked["lossless_frames"] is False
