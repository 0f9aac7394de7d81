"""Timing."""

import time

import pytest
import torch

from vq_infer.bench.measuring import measure
from vq_infer.bench.measuring.measure import Steady, steady, telemetry

CPU = torch.device("cpu")


def test_runs_for_the_time_that_is_asked_for_and_at_least_twice() -> None:
    calls: list[None] = []

    def work() -> None:
        calls.append(None)
        time.sleep(0.01)

    found = steady(work, CPU, 0.05, warm_up=2)
    assert len(calls) == len(found.seconds) + 2
    assert sum(found.seconds) >= 0.05
    assert found.median >= 0.01
    assert len(steady(work, CPU, 0.001).seconds) == 2


def test_median_spread_and_rounds() -> None:
    both = Steady((1.0, 2.0), watts=(700.0,)).then(Steady((4.0,), watts=(690.0,)))
    assert both.median == 2.0
    assert both.spread == 1.5
    assert both.watts == (700.0, 690.0)


def test_watches_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SAMPLE_SECONDS", 0.001)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
    for name, value in (("power_draw", 650_000), ("clock_rate", 1500), ("temperature", 60)):
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    found = steady(lambda: time.sleep(0.03), torch.device("cuda"), 0.01)
    assert set(zip(found.watts, found.megahertz, found.celsius, strict=True)) == {(650.0, 1500.0, 60.0)}


def test_card_that_cannot_be_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(device: object) -> int:
        raise ModuleNotFoundError("pynvml")

    monkeypatch.setattr(torch.cuda, "power_draw", fail)
    with telemetry(torch.device("cuda")) as samples:
        pass
    assert samples == []
