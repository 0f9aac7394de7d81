import pytest

from vq_eval.compare.schema import CompareReport
from vq_eval.layers.schema import LayersReport
from vq_eval.report import charts
from vq_eval.report.standings import standings_of
from vq_eval.trajectories.schema import TrajectoryReport


def test_intervals_are_those_of_the_comparison(compared: CompareReport) -> None:
    spec = charts.interval_chart(compared, "psnr", standings_of(compared, "psnr"))
    limit, bars, points = spec["layer"]
    assert limit["data"]["values"] == [{"limit": 30.0}]
    overall = compared.rows[1].overall["psnr"]
    assert overall.interval is not None
    shown = {row["row"]: row for row in bars["data"]["values"]}["int8 rtn"]
    assert (shown["low"], shown["mean"], shown["high"]) == (overall.interval[0], overall.mean, overall.interval[1])
    assert points["encoding"]["x"]["field"] == "mean"


def test_drift_has_a_curve_for_each_run_of_each_candidate(trajectory: TrajectoryReport) -> None:
    values = charts.drift_chart(trajectory)["data"]["values"]
    free = [it["error"] for it in values if (it["row"], it["run"]) == ("int8 auto", "free-running")]
    assert free == list(trajectory.candidates[2].free_running.latent.relative_error)
    assert len(values) == 3 * 2 * 4


def test_predictions_have_a_curve_for_each_branch(trajectory: TrajectoryReport) -> None:
    values = charts.prediction_chart(trajectory)["data"]["values"]
    assert {it["branch"] for it in values} == {"cond", "uncond"}
    assert len(values) == 3 * 2 * 4


def test_an_error_of_nothing_has_no_place_on_a_logarithmic_axis(trajectory: TrajectoryReport) -> None:
    candidate = trajectory.candidates[0]
    curve = candidate.free_running.latent.model_copy(update={"relative_error": (0.0, 0.1, 0.2, 0.3)})
    drift = candidate.free_running.model_copy(update={"latent": curve})
    changed = candidate.model_copy(update={"free_running": drift, "teacher_forced": drift})
    values = charts.drift_chart(trajectory.model_copy(update={"candidates": (changed,)}))["data"]["values"]
    assert sorted({it["step"] for it in values}) == [2, 3, 4]


def test_a_heat_map_has_a_cell_for_each_linear(layers: LayersReport) -> None:
    colours = charts.snr_range([layers])
    assert colours == (pytest.approx(40 - 4 * 3 - 5), 40)
    spec = charts.heat_map(layers, "transformer", colours)
    assert spec["encoding"]["color"]["scale"]["domain"] == list(colours)
    cells = {(it["block"], it["linear"]): it["snr"] for it in spec["data"]["values"]}
    assert len(cells) == 6 * 4
    assert cells[3, "ffn.net.2"] == pytest.approx(40 - 4 * 3 - 3)
    assert charts.heat_map(layers, "transformer_2", colours)["data"]["values"] == []


def test_sensitivity_says_what_was_left_out(layers: LayersReport) -> None:
    assert layers.sensitivity is not None
    spec = charts.sensitivity_chart(layers.sensitivity)
    assert [it["psnr"] for it in spec["data"]["values"]] == [40.0, 41.0, 42.0]
    assert spec["encoding"]["x"]["title"] == "@left_out_linears"


def test_the_plot_of_frames_is_filled_in_by_the_page(compared: CompareReport) -> None:
    spec = charts.frames_chart(compared, ["full", "int8"])
    assert {layer["data"]["name"] for layer in spec["layer"]} == {"figures", "playhead"}
