import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.sensitivity.heat_map import draw_heat_map, table_of
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError


@pytest.fixture
def qparams(smoothed: Path, tmp_path: Path) -> Path:
    quantize(open_weights(smoothed), QuantizeSettings("int8"), tmp_path / "q")
    return tmp_path / "q"


def test_a_cell_is_a_place_in_a_block() -> None:
    entries = {
        "blocks.0.attn1.to_q": {"output_snr_db": 40.0, "weight_snr_db": 50.0},
        "blocks.1.attn1.to_q": {"output_snr_db": 41.0, "weight_snr_db": 50.0},
        "blocks.1.ffn.net.2": {"output_snr_db": None, "weight_snr_db": 50.0},
        "text": {"output_snr_db": 39.0},
    }
    assert table_of(entries) == ("output_snr_db", {"attn1.to_q": {0: 40.0, 1: 41.0}})
    unmeasured = {"blocks.2.attn1.to_q": {"weight_snr_db": 50.0}}
    assert table_of(unmeasured) == ("weight_snr_db", {"attn1.to_q": {2: 50.0}})


def test_the_picture_has_colours(qparams: Path, tmp_path: Path) -> None:
    draw_heat_map(qparams, tmp_path / "pictures" / "map.png")
    pixels = np.asarray(Image.open(tmp_path / "pictures" / "map.png").convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 20
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["map.png"]


def test_what_cannot_be_drawn_or_written_is_refused(smoothed: Path, qparams: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.png").write_text("mine")
    for artifact, picture, message in (
        (qparams, "map.jpg", r"map.jpg should be a picture: end it in \.png"),
        (qparams, "mine.png", "mine.png exists already"),
        (smoothed, "map.png", "smoothed has no figures for transformer: make it with --stats and --scheme"),
    ):
        with pytest.raises(VqError, match=message):
            draw_heat_map(artifact, tmp_path / picture)
    assert (tmp_path / "mine.png").read_text() == "mine"


def test_without_matplotlib_it_says_what_to_install(
    qparams: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(VqError, match=r"Pictures need matplotlib: `pip install vq-algos\[plot\]`"):
        draw_heat_map(qparams, tmp_path / "map.png")
    assert not (tmp_path / "map.png").exists()
