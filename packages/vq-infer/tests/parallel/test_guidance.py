"""Both predictions on two halves: each half computes one, and both end with both."""

from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vq_core.runtime.process import this_process
from vq_infer.parallel.guidance import NAME, SplitGuidance
from vq_infer.parallel.plan import ParallelPlan
from vq_infer.parallel.team import team

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")


class Predictor(nn.Module):
    """Predicts its text, and counts how often it is asked."""

    def __init__(self) -> None:
        from types import SimpleNamespace

        super().__init__()
        self.config = SimpleNamespace(out_channels=2)
        self.calls = 0

    def forward(self, hidden_states: Tensor, text: float, return_dict: bool = False) -> tuple[Tensor]:
        self.calls += 1
        return (hidden_states[:, :2] * text,)

    @contextmanager
    def cache_context(self, name: str) -> Any:
        from diffusers.hooks.hooks import CacheContext, _set_cache_context

        _set_cache_context(self, CacheContext(name))
        yield


def guided_step() -> tuple[int, list[float], int]:
    from diffusers.hooks import HookRegistry

    process, model = this_process(), Predictor()
    with team(ParallelPlan(guidance=True), process, torch.device("cpu")) as here, torch.no_grad():
        assert here.mesh is not None
        hook = SplitGuidance(here.mesh.get_group("guidance"))
        HookRegistry.check_if_exists_or_initialize(model).register_hook(hook, NAME)
        x = torch.ones(1, 4, 1, 2, 2)
        for scale in (1.0, 10.0):
            with model.cache_context("cond"):
                cond = model(hidden_states=x, text=3 * scale)[0]
            with model.cache_context("uncond"):
                uncond = model(hidden_states=x, text=2 * scale)[0]
        hook.reset_state(model)
        with model.cache_context("uncond"), pytest.raises(RuntimeError, match="was asked for first"):
            model(hidden_states=x, text=1.0)
    return process.rank, [*cond.unique().tolist(), *uncond.unique().tolist()], model.calls


def test_each_half_computes_one(together: Callable[..., list[Any]]) -> None:
    for rank, predictions, calls in together(2, guided_step):
        assert predictions == [30.0, 20.0]
        assert calls == 2 + rank  # the last, refused question was the second half's own
