from types import SimpleNamespace

import pytest

from vq_core.errors import VqError
from vq_eval.compare import metric_choice as chosen
from vq_eval.compare.metric_choice import choose_metrics


@pytest.fixture
def _three(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three metrics, of which one cannot be measured."""
    metrics = {
        "late": SimpleNamespace(ORDER=9, missing=lambda: None),
        "early": SimpleNamespace(ORDER=1, missing=lambda: None),
        "absent": SimpleNamespace(ORDER=2, missing=lambda: "its package is not installed: install it"),
    }
    monkeypatch.setattr(chosen, "metric_names", lambda: sorted(metrics))
    monkeypatch.setattr(chosen, "load_metric", metrics.__getitem__)


@pytest.mark.usefixtures("_three")
def test_all_are_those_that_can_be_measured_in_their_order() -> None:
    picked = choose_metrics("all")
    assert list(picked.metrics) == ["early", "late"]
    assert picked.unavailable == {"absent": "its package is not installed: install it"}


@pytest.mark.usefixtures("_three")
def test_named_ones_stand_as_they_were_named() -> None:
    picked = choose_metrics("late, early")
    assert list(picked.metrics) == ["late", "early"]
    assert picked.unavailable == {}


@pytest.mark.usefixtures("_three")
@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("early,absent", "`absent` cannot be measured here: its package is not installed: install it, or"),
        ("late,late", "`--metrics late,late` names a metric twice"),
    ],
)
def test_names_that_cannot_be_measured_are_refused(names: str, sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        choose_metrics(names)


def test_the_familiar_come_first() -> None:
    assert list(choose_metrics("all").metrics)[:3] == ["psnr", "ssim", "ms_ssim"]
