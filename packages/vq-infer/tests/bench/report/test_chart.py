"""The picture."""

from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_infer.bench.report.chart import draw, require_matplotlib
from vq_infer.bench.report.results import Results


def test_draws_a_png(results: Results, tmp_path: Path) -> None:
    from PIL import Image

    require_matplotlib()
    picture = tmp_path / "charts" / "bench.png"
    draw(results, picture)
    with Image.open(picture) as image:
        assert min(image.size) > 100
        assert len(image.convert("L").getcolors() or ()) > 5
    assert [path.name for path in picture.parent.iterdir()] == ["bench.png"]


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(VqError, match=r"needs matplotlib: `pip install vq-infer\[plot\]`, or use --no-chart"):
        require_matplotlib()
