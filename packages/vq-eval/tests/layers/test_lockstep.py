import threading
import time

import pytest
import torch
from torch import Tensor, nn

from vq_eval.layers.lockstep import Lockstep, ModuleCall


class Block(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor
        self.linear = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.factor * self.linear(x)


class Model(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.ModuleList([Block(factor) for _ in range(3)])

    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        for block in self.blocks:
            x = block(x * scale)
        return x


NAMES = ["blocks.0.linear", "blocks.0", "blocks.1.linear", "blocks.1", "blocks.2"]


@pytest.fixture
def twins() -> tuple[Model, Model]:
    return Model(1.0), Model(1.1)


def test_both_calls_of_every_module_are_at_hand(twins: tuple[Model, Model]) -> None:
    full, twin = twins
    seen: list[tuple[ModuleCall, ModuleCall]] = []
    x = torch.ones(1, 2)
    with torch.no_grad(), Lockstep(full, twin, NAMES, lambda a, b: seen.append((a, b))).attached():
        output = full(x, scale=0.5)
        again = full(x)
    assert [a.name for a, _ in seen] == [*NAMES, ""] * 2
    assert [a.name for a, _ in seen] == [b.name for _, b in seen]
    with torch.no_grad():
        expected, twin_expected = full(x, scale=0.5), twin(x, scale=0.5)
    whole, twin_whole = seen[len(NAMES)]
    assert torch.equal(whole.output, output)
    assert torch.equal(output, expected)
    assert torch.equal(twin_whole.output, twin_expected)
    assert whole.kwargs == twin_whole.kwargs == {"scale": 0.5}
    assert not twin_whole.output.requires_grad
    assert torch.equal(seen[-1][0].output, again)
    assert not any(module._forward_hooks for module in (*full.modules(), *twin.modules()))


def test_few_modules_are_held_at_a_time(twins: tuple[Model, Model]) -> None:
    full, twin = twins
    reached: list[str] = []
    ahead: list[int] = []
    done: list[str] = []
    for name in NAMES:
        full.get_submodule(name).register_forward_hook(lambda *_, name=name: reached.append(name))

    def compare(exact: ModuleCall, ours: ModuleCall) -> None:
        time.sleep(0.01)  # were the other not held back, it would be through
        ahead.append(len(reached) - len(done))
        done.append(exact.name)

    with torch.no_grad(), Lockstep(full, twin, NAMES, compare).attached():
        full(torch.ones(1, 2))
    assert max(ahead) <= 3  # one being compared, one in hand, one just made


def test_a_comparison_may_call_its_modules(twins: tuple[Model, Model]) -> None:
    full, twin = twins
    again: list[bool] = []

    def compare(exact: ModuleCall, ours: ModuleCall) -> None:
        if exact.name == "blocks.1":
            again.append(torch.equal(twin.blocks[1](ours.args[0]), ours.output))

    with torch.no_grad(), Lockstep(full, twin, NAMES, compare).attached():
        full(torch.ones(1, 2))
    assert again == [True]


def test_what_the_comparison_raises_is_raised_where_the_model_is_called(twins: tuple[Model, Model]) -> None:
    def compare(exact: ModuleCall, ours: ModuleCall) -> None:
        if exact.name == "blocks.0":
            raise ValueError("not finite")

    with (
        pytest.raises(ValueError, match="not finite"),
        torch.no_grad(),
        Lockstep(*twins, NAMES, compare).attached(),
    ):
        twins[0](torch.ones(1, 2))
    _no_thread_is_left()


def test_what_the_twin_raises_is_raised_too(twins: tuple[Model, Model]) -> None:
    full, twin = twins
    twin.blocks[2] = nn.Bilinear(2, 2, 2)  # wants two inputs
    with (
        pytest.raises(TypeError, match="input2"),
        torch.no_grad(),
        Lockstep(full, twin, NAMES, lambda a, b: None).attached(),
    ):
        full(torch.ones(1, 2))
    _no_thread_is_left()


def test_a_model_that_stops_midway_takes_its_twin_with_it(twins: tuple[Model, Model]) -> None:
    full, twin = twins

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    full.blocks[1].linear.register_forward_hook(stop)
    with pytest.raises(KeyboardInterrupt), torch.no_grad(), Lockstep(full, twin, NAMES, lambda a, b: None).attached():
        full(torch.ones(1, 2))
    _no_thread_is_left()


def test_twins_that_go_different_ways_are_an_error(twins: tuple[Model, Model]) -> None:
    full, twin = twins
    twin.forward = lambda x: twin.blocks[0](twin.blocks[1](x))  # type: ignore[method-assign]
    lockstep = Lockstep(full, twin, ["blocks.0", "blocks.1"], lambda a, b: None)
    with pytest.raises(RuntimeError, match="the twin has reached"), torch.no_grad(), lockstep.attached():
        full(torch.ones(1, 2))


def _no_thread_is_left() -> None:
    deadline = time.monotonic() + 5
    while any(thread.name == "quantized twin" for thread in threading.enumerate()):
        assert time.monotonic() < deadline
        time.sleep(0.01)
