import math
from pathlib import Path

from PIL import Image

from vq_eval.layers.picture import draw_layers, draw_sensitivity, table_of
from vq_eval.layers.schema import LayersReport, Place, Suspect


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as image:
        return image.size


def test_a_table_has_linears_down_and_blocks_across(report: LayersReport) -> None:
    linears = [place for place in report.places if place.kind == "linear"]
    names, values = table_of(linears, "in_place")
    assert names[0] == "attn1.to_q"
    assert (len(names), {len(row) for row in values}) == (10, {3})
    place = next(it for it in linears if it.name == "blocks.2.ffn.net.2")
    assert values[names.index("ffn.net.2")][2] == place.in_place.snr_db
    some = [it for it in linears if it.name != "blocks.1.ffn.net.2"]
    assert math.isnan(table_of(some, "own")[1][names.index("ffn.net.2")][1])


def test_a_heat_map_for_every_transformer_and_frames_around_suspects(
    layered: Path, report: LayersReport, suspect: Suspect, tmp_path: Path
) -> None:
    draw_layers(report, tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes() == (layered / "layers.png").read_bytes()
    second = tuple(Place.model_validate({**it.model_dump(), "component": "transformer_2"}) for it in report.places)
    draw_layers(report.model_copy(update={"places": report.places + second}), tmp_path / "two.png")
    (_, one), (_, two) = (size_of(tmp_path / f"{name}.png") for name in ("one", "two"))
    assert two > 1.8 * one
    draw_layers(report.model_copy(update={"suspects": (suspect,)}), tmp_path / "framed.png")
    assert (tmp_path / "framed.png").read_bytes() != (tmp_path / "one.png").read_bytes()


def test_the_curve_of_what_leaving_out_gains(layered: Path, report: LayersReport, tmp_path: Path) -> None:
    sensitivity = report.sensitivity
    assert sensitivity is not None
    draw_sensitivity(sensitivity, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes() == (layered / "sensitivity.png").read_bytes()
    exact = sensitivity.model_copy(update={"rows": sensitivity.rows[:1]})
    draw_sensitivity(exact, tmp_path / "one.png")
    assert size_of(tmp_path / "one.png") == (840, 480)
