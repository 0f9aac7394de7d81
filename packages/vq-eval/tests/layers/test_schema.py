import pytest
from pydantic import ValidationError

from vq_eval.layers.schema import LayersReport, Noise


def test_without_cells_a_report_is_the_same_but_for_them(report: LayersReport) -> None:
    whole = report.model_dump(mode="json")
    for place in whole["places"]:
        assert place.pop("cells")
    assert report.without_cells() == whole


def test_a_figure_that_json_cannot_hold_is_refused() -> None:
    with pytest.raises(ValidationError):
        Noise(snr_db=float("inf"), noise_to_signal=0)
