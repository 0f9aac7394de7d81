import pytest
import torch

from vq_infer.engine.step_clock import StepClock


def test_step_clock_leaves_out_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 10.0, 11.0, 13.0, 16.0])
    monkeypatch.setattr("vq_infer.engine.step_clock.time.monotonic", lambda: next(times))
    clock = StepClock(torch.device("cpu"))
    assert clock.median() is None
    clock.tick()
    assert clock.median() == 10.0
    for _ in range(3):
        clock.tick()
    assert clock.median() == 2.0
