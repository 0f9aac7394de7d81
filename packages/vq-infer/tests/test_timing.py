import pytest
import torch

from vq_infer.timing import StepClock, synchronize, timed

CPU = torch.device("cpu")


def test_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[object] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    synchronize(CPU)
    assert waited == []
    assert timed(lambda: None, torch.device("cuda")) >= 0
    assert len(waited) == 2  # before and after


def test_step_clock_leaves_out_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 10.0, 11.0, 13.0, 16.0])
    monkeypatch.setattr("vq_infer.timing.time.monotonic", lambda: next(times))
    clock = StepClock(CPU)
    assert clock.median() is None
    clock.tick()
    assert clock.median() == 10.0
    for _ in range(3):
        clock.tick()
    assert clock.median() == 2.0
