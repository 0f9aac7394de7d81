from collections.abc import Callable

import pytest
from rich.console import Console

from vq_eval.compare.limits import Limit
from vq_eval.compare.schema import CompareReport, Provenance, Row
from vq_eval.compare.table import console_table, rows_shown, summary_rows, to_markdown

PROVENANCE = Provenance(
    path="videos", digest="d", variant="full", tool="t", family="wan", model="m", fingerprints={}, settings={},
    prompts=(), parents={}, altered=("cat.mkv",),
)  # fmt: skip


@pytest.fixture
def rows(make_row: Callable[..., Row]) -> list[Row]:
    flicker = {"flicker": {"cat": 4.0, "fog": 4.0}}
    return [
        make_row("reference", flicker, "reference", seconds_per_video=2.0),
        make_row("floor", {"psnr": {"cat": 50.0, "fog": 52.0}, **flicker}, "floor"),
        make_row(
            "int8", {"psnr": {"cat": 30.0, "fog": None}, "flicker": {"cat": 5.0, "fog": 4.0}}, provenance=PROVENANCE
        ),
    ]


@pytest.fixture
def report(make_report: Callable[..., CompareReport], rows: list[Row]) -> CompareReport:
    return make_report(rows, [Limit("psnr", "worst", 31.0, "--min-psnr 31")])


def _printed(report: CompareReport) -> list[str]:
    console = Console(width=120, record=True, file=None)
    with console.capture() as captured:
        console.print(console_table(report))
    return captured.get().splitlines()


def test_the_terminal_shows_every_row_with_interval_and_worst_video(report: CompareReport) -> None:
    lines = _printed(report)
    assert all(name in lines[2] for name in ("reference", "floor", "int8"))
    table = "\n".join(lines)
    for text in ("PSNR dB ↑", "51.00", "[50.00, 52.00]", "worst 50.00 (cat)", "worst 30.00 (cat)", "Flicker levels ↓"):
        assert text in table


def test_markdown_has_means_worst_videos_and_every_video(report: CompareReport) -> None:
    lines = to_markdown(report).splitlines()
    assert "Verdict: **failed**." in lines
    assert any(line.startswith("- **failed**: PSNR of `int8`, video `cat`, is 30.00 dB, 1 dB below") for line in lines)
    assert "|  | PSNR dB ↑ | Flicker levels ↓ |" in lines
    assert "| reference |  | 4.00 [4.00, 4.00] |" in lines
    assert "| floor | 51.00 [50.00, 52.00] | 4.00 [4.00, 4.00] |" in lines
    assert "| int8 | 30.00 (cat) | 5.00 (cat) |" in lines
    assert "| fog | int8 | 2 | 480x832 | identical | 4.00 |" in lines
    assert "- `lpips` was not measured: its weights are not here." in lines
    assert "- **altered since made**, int8: cat.mkv" in lines


def test_the_reference_is_shown_where_it_has_figures(
    report: CompareReport, make_report: Callable[..., CompareReport], make_row: Callable[..., Row], rows: list[Row]
) -> None:
    assert rows_shown(report)[0].name == "reference"
    bare = make_report(
        [rows[0].model_copy(update={"overall": {}}), make_row("int8", {"psnr": {"cat": 30.0, "fog": 31.0}})]
    )
    assert [row.name for row in rows_shown(bare)] == ["int8"]


def test_the_summary_says_what_the_table_does_not(report: CompareReport) -> None:
    assert summary_rows(report) == {
        "videos": "2 of each row; all from lossless .mkv",
        "seconds per video": "2.0 reference",
        "altered since made, int8": "cat.mkv",
        "no lpips": "its weights are not here",
        "gate": "failed",
    }


def test_lossy_and_equal_videos_are_told(
    make_report: Callable[..., CompareReport], make_row: Callable[..., Row], rows: list[Row]
) -> None:
    lossy = make_row("int8", {"psnr": {"cat": None, "fog": 30.0}})
    videos = tuple(video.model_copy(update={"lossless": False}) for video in lossy.videos)
    summary = summary_rows(make_report([rows[0], lossy.model_copy(update={"videos": videos})]))
    assert summary["videos"].startswith("2 of each row; 2 pairs with an .mp4, whose lossy coding distorts the figures")
    assert summary["identical"] == "1 of int8"
    assert summary["gate"] == "no gate"
