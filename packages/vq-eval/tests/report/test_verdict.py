from collections.abc import Callable
from typing import Any

import pytest

from vq_eval.compare.schema import CompareReport
from vq_eval.layers.schema import LayersReport
from vq_eval.report.verdict import ReportVerdict, judge, overall_text


def said(verdict: ReportVerdict) -> str:
    return "\n".join(it.text("en") for it in (verdict.headline, *verdict.reasons, *verdict.suspects))


def test_the_best_that_passes_is_shipped(compared: CompareReport) -> None:
    verdict = judge(compared, {})
    assert (verdict.outcome, verdict.best) == ("ship", "int8 auto")
    text = said(verdict)
    assert "Ship int8 auto" in text
    assert "below the floor" in text
    assert "Not int8 rtn: PSNR of `int8 rtn`, video `000`, is 17." in text


def test_without_a_gate_it_is_only_the_closest(compared: CompareReport) -> None:
    verdict = judge(compared.model_copy(update={"gates": (), "verdict": "no gate"}), {})
    assert (verdict.outcome, verdict.best) == ("closest", "int8 auto")
    assert "No gate was set" in said(verdict)
    assert "ahead of int8 rtn" in said(verdict)


def test_where_all_fail_none_is_shipped(compared: CompareReport) -> None:
    gates = tuple(gate.model_copy(update={"passed": False}) for gate in compared.gates)
    verdict = judge(compared.model_copy(update={"gates": gates, "verdict": "failed"}), {})
    assert (verdict.outcome, verdict.best) == ("none", None)
    assert "Ship none of them" in said(verdict)


def test_candidates_that_cannot_be_told_apart_are_called_so(compared: CompareReport) -> None:
    floor, _, auto = compared.rows
    twin = auto.model_copy(update={"name": "twin"})
    verdict = judge(compared.model_copy(update={"rows": (floor, auto, twin), "gates": (), "verdict": "no gate"}), {})
    assert "Not distinguishable from twin" in said(verdict)


def test_altered_files_are_suspects(compared: CompareReport) -> None:
    floor, rtn, auto = compared.rows
    assert auto.provenance is not None
    altered = auto.provenance.model_copy(update={"altered": ("001.mkv",)})
    rows = (floor, rtn, auto.model_copy(update={"provenance": altered}))
    assert "int8 auto: files were changed after they were made (001.mkv)" in said(
        judge(compared.model_copy(update={"rows": rows}), {})
    )


def test_a_candidate_that_equals_the_reference_is_a_suspect(make_world: Callable[..., Any]) -> None:
    world = make_world({"same": 0, "int8": 3}, gate=False)
    compared = CompareReport.model_validate_json((world.comparison / "compare.json").read_bytes())
    verdict = judge(compared, {})
    assert "same: every video equals the reference" in said(verdict)
    assert "identical against full precision" in said(verdict)


@pytest.mark.parametrize(("drop_db", "suspect"), [(9.0, False), (10.0, True)])
def test_a_video_far_below_the_others_is_a_suspect(compared: CompareReport, drop_db: float, suspect: bool) -> None:
    auto = compared.rows[2]
    figures = {"a": 40.0, "b": 40.0, "c": 40.0, "d": 40.0 - drop_db}
    figure = auto.videos[0].figures["psnr"]
    videos = tuple(
        auto.videos[0].model_copy(update={"name": name, "figures": {"psnr": figure.model_copy(update={"video": psnr})}})
        for name, psnr in figures.items()
    )
    rows = (auto.model_copy(update={"videos": videos}),)
    verdict = judge(compared.model_copy(update={"rows": rows}), {})
    assert (f"video d is {drop_db:.1f} dB below" in said(verdict)) == suspect


def test_layers_name_suspects(compared: CompareReport, layers: LayersReport) -> None:
    assert "int8 auto: blocks.3.ffn.net.2 has 9.0 dB" in said(judge(compared, {"int8 auto": layers}))


def test_without_candidates_there_is_nothing_to_judge(compared: CompareReport) -> None:
    verdict = judge(compared.model_copy(update={"rows": compared.rows[:1], "gates": (), "verdict": "no gate"}), {})
    assert verdict.best is None
    assert "Nothing to judge" in said(verdict)


def test_a_figure_has_its_interval(compared: CompareReport) -> None:
    overall = compared.rows[2].overall["psnr"]
    text = overall_text(compared, "psnr", overall)
    assert not isinstance(text, str)
    assert text.text("zh").startswith(f"{overall.mean:.2f} dB（")
    assert overall_text(compared, "psnr", overall.model_copy(update={"interval": None})) == f"{overall.mean:.2f} dB"
