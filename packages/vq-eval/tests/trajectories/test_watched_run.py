from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vq_eval.trajectories.watched_run import SeenStep, WatchedRun


class Momentum:
    """A scheduler with a history: x ← x + v + v of the step before / 2."""

    def __init__(self) -> None:
        self.before: Tensor | None = None

    def step(self, v: Tensor, timestep: Tensor, x: Tensor, return_dict: bool = True) -> Any:
        after = x + v + (0 if self.before is None else self.before / 2)
        self.before = v
        return (after,)


class Scaled(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x * self.factor,)


def sample(factor: float, forced: list[Tensor] | None = None, steps: int = 3) -> tuple[list[SeenStep], list[Tensor]]:
    """Guided prediction 3·cond − 2·uncond, as a diffusers pipeline calls model and scheduler; what was seen, and x."""
    seen: list[SeenStep] = []
    run = WatchedRun(lambda step, it: seen.append(it), None if forced is None else forced.__getitem__)
    model, scheduler = Scaled(factor), Momentum()
    run.watch(scheduler)
    x = torch.ones(2)
    path = []
    with run.attached({"transformer": model}):
        for _ in range(steps):
            cond, uncond = model(x)[0], model(x + 1)[0]
            (x,) = scheduler.step(3 * cond - 2 * uncond, torch.tensor(0), x, return_dict=False)
            path.append(x)
    assert not model._forward_hooks
    return seen, path


def test_every_step_is_seen() -> None:
    seen, path = sample(0.5)
    assert torch.equal(seen[0].predictions[0], torch.full((2,), 0.5))
    assert torch.equal(seen[0].predictions[1], torch.full((2,), 1.0))
    assert torch.equal(seen[0].guided, torch.full((2,), -0.5))
    assert [torch.equal(it.latent, x) for it, x in zip(seen, path, strict=True)] == [True] * 3
    assert [len(it.predictions) for it in seen] == [2, 2, 2]


def test_a_forced_run_stays_on_the_path_and_is_judged_from_it() -> None:
    exact, exact_path = sample(0.5)
    forced, path = sample(0.7, [it.guided for it in exact])
    for ours, theirs in zip(path, exact_path, strict=True):
        assert torch.equal(ours, theirs)
    starts = [torch.ones(2), *exact_path]
    for step, it in enumerate(forced):
        own = 3 * 0.7 * starts[step] - 2 * 0.7 * (starts[step] + 1)
        # The history is the path's, not the run's own.
        history = exact[step - 1].guided / 2 if step else 0
        torch.testing.assert_close(it.guided, own)
        torch.testing.assert_close(it.latent, starts[step] + own + history)


def test_forced_by_itself_a_run_is_itself() -> None:
    exact, _ = sample(0.5)
    forced, _ = sample(0.5, [it.guided for it in exact])
    assert all(torch.equal(a.latent, b.latent) for a, b in zip(exact, forced, strict=True))


def test_a_free_run_goes_its_own_way() -> None:
    assert sample(0.7)[1][-1] != pytest.approx(sample(0.5)[1][-1])
