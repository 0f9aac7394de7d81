from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from vq_eval.compare.schema import CompareReport
from vq_eval.report.standings import floor_of, gap, lead_metric, standings_of


def test_candidates_that_pass_come_before_those_that_fail(compared: CompareReport) -> None:
    standings = standings_of(compared, "psnr")
    assert [it.row.name for it in standings] == ["floor", "int8 auto", "int8 rtn"]
    assert [len(it.failed) for it in standings] == [0, 0, 1]


def test_a_figure_that_fails_its_gate_does_not_win(compared: CompareReport) -> None:
    gates = [gate.model_copy(update={"passed": gate.row == "int8 rtn"}) for gate in compared.gates]
    standings = standings_of(compared.model_copy(update={"gates": tuple(gates)}), "psnr")
    assert [it.row.name for it in standings] == ["floor", "int8 rtn", "int8 auto"]


def test_a_gap_is_the_mean_of_the_differences_of_videos(compared: CompareReport) -> None:
    auto, floor = compared.rows[2], compared.rows[0]
    found = gap(compared, auto, floor, "psnr")
    assert found is not None
    differences = [
        a.figures["psnr"].video - b.figures["psnr"].video  # type: ignore[operator]
        for a, b in zip(auto.videos, floor.videos, strict=True)
    ]
    assert found.mean == pytest.approx(np.mean(differences))
    assert found.interval is not None
    assert min(differences) <= found.interval[0] <= found.mean <= found.interval[1] <= max(differences)
    assert found.is_certain


def test_where_less_is_better_the_gap_changes_its_sign(compared: CompareReport) -> None:
    auto, rtn = compared.rows[2], compared.rows[1]
    turned = compared.metrics["psnr"].model_copy(update={"higher_is_better": False})
    other = compared.model_copy(update={"metrics": {"psnr": turned}, "gates": ()})
    ours, theirs = gap(compared, auto, rtn, "psnr"), gap(other, auto, rtn, "psnr")
    assert ours is not None
    assert theirs is not None
    assert ours.mean == -theirs.mean
    assert [it.row.name for it in standings_of(other, "psnr")] == ["floor", "int8 rtn", "int8 auto"]


def test_an_identical_row_stands_first_and_has_no_gap(make_world: Callable[..., Any]) -> None:
    world = make_world({"int8 auto": 3, "same": 0}, gate=False)
    compared = CompareReport.model_validate_json((world.comparison / "compare.json").read_bytes())
    assert floor_of(compared) is None
    first, second = standings_of(compared, "psnr")
    assert (first.row.name, first.identical, first.to_floor) == ("same", True, None)
    assert gap(compared, first.row, second.row, "psnr") is None


def test_the_lead_is_psnr_else_the_first_metric_that_compares(compared: CompareReport) -> None:
    psnr = compared.metrics["psnr"]
    alone = psnr.model_copy(update={"compares": False})
    for metrics, lead in (
        ({"ssim": psnr, "psnr": psnr}, "psnr"),
        ({"flicker": alone, "ssim": psnr}, "ssim"),
        ({"flicker": alone}, None),
    ):
        assert lead_metric(compared.model_copy(update={"metrics": metrics})) == lead
