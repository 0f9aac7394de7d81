from pathlib import Path

import pytest

from vq_eval.layers.markdown import print_layers, tables_of, to_markdown
from vq_eval.layers.schema import LayersReport, Suspect


def test_tables_begin_with_the_worst(report: LayersReport) -> None:
    linears, blocks, buckets, gains = tables_of(report)
    assert linears[0] == "Worst 20 of 30 linears"
    assert [row[0] for row in linears[2]] == list(report.ranking.linears[:20])
    assert [row[0] for row in blocks[2]] == list(report.ranking.blocks)
    assert {row[1] for row in buckets[2]} == {"0.750–0.875", "0.875–1.000"}
    assert [row[0] for row in gains[2]] == ["0", "1", "30"]
    place = next(it for it in report.places if f"transformer.{it.name}" == report.ranking.linears[0])
    assert place.own is not None
    assert place.own.snr_db is not None
    assert linears[2][0][2] == f"{place.own.snr_db:.1f}"
    assert all(len(row) == len(head) for _, head, rows in tables_of(report) for row in rows)


def test_without_sensitivity_there_is_no_table_of_it(report: LayersReport) -> None:
    assert len(tables_of(report.model_copy(update={"sensitivity": None}))) == 3


def test_markdown_names_suspects_or_none(report: LayersReport, suspect: Suspect, layered: Path) -> None:
    text = to_markdown(report)
    assert text == (layered / "layers.md").read_text()
    assert "## Suspects\n\nNone.\n" in text
    assert "* blocks.1.ffn.net.2 is [broken]." in to_markdown(report.model_copy(update={"suspects": (suspect,)}))


def test_the_console_shows_the_same(report: LayersReport, suspect: Suspect, capsys: pytest.CaptureFixture[str]) -> None:
    print_layers(report)
    printed = capsys.readouterr().out
    assert "No suspects." in printed
    assert all(name in printed for name in report.ranking.linears[:20])
    print_layers(report.model_copy(update={"suspects": (suspect,)}))
    assert "Suspect: blocks.1.ffn.net.2 is [broken]." in capsys.readouterr().out
