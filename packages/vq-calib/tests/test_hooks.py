from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from vq_calib.hooks import Observer, bucket_of
from vq_calib.reduction import eager_reduction
from vq_core.errors import VqError
from vq_core.topology import Group

GROUPS = (Group("a", ("first", "second"), None, 4), Group("b", ("inner.last",), None, 3))


class Toy(nn.Module):
    """Two linears on one input, and one on their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 3), nn.Linear(4, 3)
        self.inner = nn.ModuleDict({"last": nn.Linear(3, 2)})

    def forward(self, hidden_states: Tensor, timestep: Tensor) -> Tensor:
        output: Tensor = self.inner["last"](self.first(hidden_states) + self.second(hidden_states))
        return output


class Flushed:
    """Records what an observer hands over."""

    def __init__(self) -> None:
        self.buckets: list[int] = []
        self.counts: list[list[int]] = []
        self.absmax: list[Tensor] = []

    def __call__(self, bucket: int, sums: dict[str, Tensor]) -> None:
        self.buckets.append(bucket)
        self.counts.append(sums["a.count"].tolist())
        self.absmax.append(sums["a.absmax"])


@pytest.fixture(autouse=True)
def _no_grad() -> Iterator[None]:
    with torch.no_grad():
        yield


def _observer(flushed: Flushed, *, guided: bool = True) -> Observer:
    return Observer("toy", GROUPS, guided=guided, reduce=eager_reduction(), flush=flushed)


def _hooks(model: nn.Module) -> int:
    return sum(len(module._forward_pre_hooks) for module in model.modules())


@pytest.mark.parametrize(
    ("sigma", "bucket"), [(0.0, 0), (0.124, 0), (0.125, 1), (0.5, 4), (0.874, 6), (0.875, 7), (0.999, 7), (1.0, 7)]
)
def test_buckets_divide_sigma_evenly(sigma: float, bucket: int) -> None:
    assert bucket_of(sigma) == bucket


def test_calls_go_by_turns_to_the_branches_and_by_timestep_to_the_buckets() -> None:
    model, flushed = Toy(), Flushed()
    observer = _observer(flushed)
    with observer.attached(model):
        for step, timestep in enumerate((999, 880, 300)):
            for branch in range(2):
                model(torch.full((1, 5, 4), 10.0 * step + branch), timestep=torch.tensor([timestep]))
        observer.flush()
    assert flushed.buckets == [7, 2]
    assert flushed.counts == [[10, 10], [5, 5]]
    assert [absmax[:, 0].tolist() for absmax in flushed.absmax] == [[10.0, 11.0], [20.0, 21.0]]
    assert observer.calls == 6


def test_without_guidance_every_call_is_conditional() -> None:
    model, flushed = Toy(), Flushed()
    observer = _observer(flushed, guided=False)
    with observer.attached(model):
        for timestep in (999, 990):
            model(torch.ones(1, 5, 4), timestep=torch.tensor([timestep]))
        observer.flush()
    assert flushed.counts == [[10, 0]]


def test_a_timestep_per_token_counts_as_the_largest() -> None:
    model, flushed = Toy(), Flushed()
    observer = _observer(flushed)
    with observer.attached(model):
        model(torch.ones(1, 5, 4), timestep=torch.tensor([[0, 0, 640, 640]]))
        observer.flush()
    assert flushed.buckets == [5]


def test_nothing_is_handed_over_twice_or_without_a_call() -> None:
    model, flushed = Toy(), Flushed()
    observer = _observer(flushed)
    with observer.attached(model):
        observer.flush()
        model(torch.ones(1, 5, 4), timestep=torch.tensor([640]))
        observer.flush()
        observer.flush()
    assert flushed.buckets == [5]


def test_hooks_are_gone_afterwards() -> None:
    model = Toy()
    with _observer(Flushed()).attached(model):
        assert _hooks(model) == 3
    assert _hooks(model) == 0


def test_hooks_are_gone_after_an_error() -> None:
    model = Toy()
    with pytest.raises(RuntimeError, match="shapes"), _observer(Flushed()).attached(model):
        model(torch.ones(1, 5, 7), timestep=torch.tensor([640]))
    assert _hooks(model) == 0


def test_hooks_are_gone_where_a_group_names_no_linear() -> None:
    model = Toy()
    observer = Observer(
        "toy", (*GROUPS, Group("c", ("absent",), None, 4)), guided=True, reduce=eager_reduction(), flush=Flushed()
    )
    with pytest.raises(AttributeError), observer.attached(model):
        pass
    assert _hooks(model) == 0


def test_a_pipeline_that_does_not_call_in_pairs_is_a_bug() -> None:
    model = Toy()
    with _observer(Flushed()).attached(model):
        model(torch.ones(1, 5, 4), timestep=torch.tensor([640]))
        with pytest.raises(RuntimeError, match=r"timestep 320.*640"):
            model(torch.ones(1, 5, 4), timestep=torch.tensor([320]))


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_nan_is_refused_where_it_is_first_read(value: float) -> None:
    model = Toy()
    observer = _observer(Flushed())
    with observer.attached(model):
        observer.check_finite()
        model(torch.ones(1, 5, 4), timestep=torch.tensor([640]))
        observer.check_finite()
        model.first.bias[1] = value
        model(torch.ones(1, 5, 4), timestep=torch.tensor([640]))
        with pytest.raises(VqError, match=r"^The input of b in toy holds NaN or Inf at sigma 0\.640 \(bucket 5\)"):
            observer.check_finite()
