import json
import re
from pathlib import Path
from typing import Any

import pytest

from vq_eval.report.inputs import ReportInputs, read_inputs
from vq_eval.report.media import Clip
from vq_eval.report.page import Page, Shown, components_of, figure_text, worst_linears
from vq_eval.report.provenance import chains_of
from vq_eval.report.verdict import judge

CLIP = Clip("videos/0.mp4", 8, "strips/0.webp", (0, 8), (), 3, 9)


def page_of(inputs: ReportInputs) -> Page:
    compared = inputs.comparison
    rows = (compared.reference, *compared.rows)
    shown = tuple(Shown(f"row-{i}", row, "floor", (CLIP,) * len(row.videos)) for i, row in enumerate(rows))
    return Page(inputs, judge(compared, inputs.layers), shown, chains_of(rows, []))


@pytest.fixture
def page(world: Any) -> Page:
    return page_of(read_inputs(world.comparison, world.trajectory, [world.layers]))


def test_everything_that_was_measured_is_shown(page: Page) -> None:
    html = page.html()
    for row in page.comparison.rows:
        assert f"<b>{row.overall['psnr'].mean:.2f}</b>" in html
    for chain in page.chains.values():
        assert all(link.digest in html for link in chain)
    for identifier in page.charts():
        assert f'id="{identifier}"' in html
    assert "below what it should be: --min-psnr 30" in html


def test_what_users_typed_is_escaped(page: Page) -> None:
    html = page.html()
    assert "a red square, 000 &lt;b&gt;" in html
    assert "a red square, 000 <b>" not in html


def test_nothing_is_fetched_from_elsewhere(page: Page) -> None:
    addresses = re.findall(r'(?:src|href)="([^"]*)"', page.html())
    assert addresses
    assert not [it for it in addresses if re.match(r"\w+:|/", it) and it != "data:,"]


def test_scripts_read_the_same_figures(page: Page) -> None:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page.html(), re.DOTALL)
    assert found is not None
    data = json.loads(found[1])
    figures = page.comparison.rows[1].videos[0].figures["psnr"]
    assert data["figures"]["psnr"]["int8 rtn"][0] == list(figures.per_frame)
    assert data["best"] == "int8 auto"


def test_a_comparison_alone_makes_a_page(world: Any) -> None:
    html = page_of(read_inputs(world.comparison, None, [])).html()
    assert 'id="drift"' not in html
    assert 'id="layers"' not in html
    assert "Layers were not measured" in html


def test_layers_are_told_in_short(world: Any) -> None:
    (layers,) = read_inputs(world.comparison, None, [world.layers]).layers.values()
    assert components_of(layers) == ["transformer"]
    assert worst_linears(layers)[0] == ("blocks.0.attn1.to_q", 40, 0.01)


def test_an_infinite_figure_is_said(page: Page) -> None:
    assert figure_text(page.comparison, "psnr", None) == "∞"
    assert figure_text(page.comparison, "psnr", 30.0) == "30.00"


def test_assets_that_the_page_names_exist(page: Page) -> None:
    import vq_eval.report

    assets = Path(vq_eval.report.__file__).parent / "assets"
    named = set(re.findall(r'(?:src|href)="([\w.]+\.(?:js|css))"', page.html()))
    assert named - {"vega.js"} == {path.name for path in assets.iterdir()}
