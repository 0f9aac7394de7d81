from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_eval.compare.schema import CompareReport
from vq_eval.report import build
from vq_eval.report.build import make_report, pixels_of


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the plotting library, which takes seconds to bundle and is looked at in a browser elsewhere."""
    monkeypatch.setattr("vl_convert.javascript_bundle", lambda: "let n")


@pytest.mark.usefixtures("quick")
def test_writes_everything_that_the_page_needs(world: Any, tmp_path: Path) -> None:
    made = make_report(world.comparison, tmp_path / "page", trajectory=world.trajectory, layers=[world.layers])
    files = {
        path.relative_to(tmp_path / "page").as_posix() for path in (tmp_path / "page").rglob("*") if path.is_file()
    }
    rows, videos = range(4), ("000", "001")
    assert files == {
        "index.html", *build.ASSETS, build.PLOTTING,
        *(f"videos/{row}/{index}.mp4" for row in rows for index in videos),
        *(f"strips/{row}/{index}.webp" for row in rows for index in videos),
        *(f"frames/{row}/{index}-0.webp" for row in rows for index in videos),
    }  # fmt: skip
    assert made.bytes == sum(path.stat().st_size for path in (tmp_path / "page").rglob("*") if path.is_file())
    assert made.to_json()["best"] == "int8 auto"
    assert made.rows()["verdict"] == "Ship int8 auto"
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


@pytest.mark.usefixtures("quick")
def test_lossless_frames_are_left_out_where_there_are_many(
    world: Any, compared: CompareReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pixels_of(compared) == 4 * 2 * 9 * 32 * 48
    monkeypatch.setattr(build, "LOSSLESS_PIXELS", pixels_of(compared) - 1)
    make_report(world.comparison, tmp_path / "page")
    assert not (tmp_path / "page" / "frames").exists()


def test_refuses_a_folder_that_exists(world: Any, tmp_path: Path) -> None:
    with pytest.raises(VqError, match="exists already"):
        make_report(world.comparison, tmp_path)


@pytest.mark.usefixtures("quick")
def test_what_fails_leaves_nothing(world: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Path) -> None:
        raise OSError("full")

    monkeypatch.setattr(build, "_write_assets", fail)
    with pytest.raises(OSError, match="full"):
        make_report(world.comparison, tmp_path / "page", lossless_frames=False)
    assert list(tmp_path.iterdir()) == []
