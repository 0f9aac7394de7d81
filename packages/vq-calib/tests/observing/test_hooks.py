from collections.abc import Iterator
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor, nn

from vq_calib.observing.hooks import Observer
from vq_calib.observing.reduction import eager_reduction
from vq_calib.planning.calib_prompts import CalibPrompt
from vq_calib.planning.token_plan import Script, script_of
from vq_core.errors import VqError
from vq_core.sampling.schedule import Call, bucket_of
from vq_core.topology import Group

GROUPS = (Group("a", ("first", "second"), None, 4), Group("b", ("inner.last",), None, 3))
TOKENS = 5
Flushed = tuple[int, dict[str, Tensor]]


class Toy(nn.Module):
    """Two linears on one input, and one on their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)
        self.inner = nn.ModuleDict({"last": nn.Linear(3, 2)})

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Tensor:
        output: Tensor = self.inner["last"](self.first(hidden_states) + self.second(hidden_states))
        return output


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def _script(*timesteps: float, branches: int = 2) -> Script:
    """The script of a prompt that is called at `timesteps`, without sampled tokens."""
    calls = [
        Call(step, branch, timestep, bucket_of(timestep / 1000))
        for step, timestep in enumerate(timesteps)
        for branch in range(branches)
    ]
    return script_of(CalibPrompt(0, "12" * 32, 3, "fit", TOKENS), calls, None)


def _observer(script: Script, groups: tuple[Group, ...] = GROUPS, flushed: list[Flushed] | None = None) -> Observer:
    def flush(bucket: int, taken: dict[str, Tensor]) -> None:
        if flushed is not None:
            flushed.append((bucket, taken))

    return Observer("toy", groups, script, reduction=eager_reduction(), flush=flush)


def _hooks(model: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) for module in model.modules())


def _call(model: nn.Module, timestep: float, tokens: int = TOKENS, channels: int = 4) -> None:
    model(torch.ones(1, tokens, channels), timestep=torch.tensor([timestep]))


def test_ties_among_outliers_are_broken_differently_in_every_call() -> None:
    model = Toy()
    flushed: list[Flushed] = []
    observer = _observer(_script(999, 998), flushed=flushed)
    with observer.attached(model):
        for timestep in (999, 999, 998, 998):
            _call(model, timestep)
        observer.finish()
    ((_, taken),) = flushed
    assert len(set(taken["a.outlier_keys"].tolist())) == 4 * TOKENS


@pytest.mark.parametrize(
    ("channels", "groups", "error"),
    [
        (4, GROUPS, None),
        (7, GROUPS, RuntimeError),  # the model fails within a call
        (4, (*GROUPS, Group("c", ("absent",), None, 4)), AttributeError),  # a group names a linear that is not there
    ],
)
def test_hooks_are_gone_afterwards(channels: int, groups: tuple[Group, ...], error: type[Exception] | None) -> None:
    model = Toy()
    watched = _observer(_script(640), groups).attached(model)
    with pytest.raises(error) if error else nullcontext(), watched:
        assert _hooks(model) == 3
        _call(model, 640, channels=channels)
    assert _hooks(model) == 0


@pytest.mark.parametrize(
    ("timestep", "tokens", "message"),
    [(300, TOKENS, "at timestep 300 where timestep 640 was planned"), (640, 6, "read 6 tokens where 5 were planned")],
)
def test_a_call_that_was_not_planned_is_a_bug(timestep: float, tokens: int, message: str) -> None:
    model = Toy()
    with _observer(_script(640)).attached(model), pytest.raises(RuntimeError, match=message):
        _call(model, timestep, tokens)


def test_too_few_and_too_many_calls_are_a_bug_and_nothing_is_handed_over_twice() -> None:
    model = Toy()
    flushed: list[Flushed] = []
    observer = _observer(_script(640, 320, branches=1), flushed=flushed)
    with observer.attached(model):
        observer.flush()
        _call(model, 640)
        with pytest.raises(RuntimeError, match="toy was called 1 times less than planned"):
            observer.finish()
        with pytest.raises(RuntimeError, match="at timestep 100 where no further call was planned"):
            _call(model, 100)
        observer.finish()
    assert [bucket for bucket, _ in flushed] == [5]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_is_refused_where_it_is_first_read(value: float) -> None:
    model = Toy()
    observer = _observer(_script(640))
    with observer.attached(model):
        observer.end_step()
        _call(model, 640)
        observer.end_step()
        model.first.bias[1] = value
        _call(model, 640)
        expected = r"^The input of b \(`[a-z.]+`\) in toy holds NaN or Inf in 5 rows at sigma 0\.640 \(bucket 5\)"
        with pytest.raises(VqError, match=expected):
            observer.end_step()
