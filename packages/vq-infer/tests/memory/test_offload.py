"""Blocks that wait on the host give the same bits as blocks that stay."""

from collections.abc import Iterable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from vq_infer.memory.offload import PLACES, BlockOffload, spread
from vq_infer.memory.pinned import PinnedBytes

CPU = torch.device("cpu")
DEVICES = [CPU, pytest.param(torch.device("cuda"), marks=pytest.mark.gpu)]


class Block(nn.Module):
    """A parameter, a buffer, and counts of its calls."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.inner = nn.Linear(64, 64)
        self.register_buffer("codes", torch.randint(-127, 128, (64, 64), generator=generator, dtype=torch.int8))
        self.register_buffer("none", None)

    def forward(self, x: Tensor) -> Tensor:
        codes: Tensor = self.codes
        return torch.tanh(self.inner(x) + x @ codes.float() / 1000)


def stack(blocks: int, device: torch.device) -> nn.Sequential:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    return nn.Sequential(*(Block(generator) for _ in range(blocks))).to(device).requires_grad_(False)


def offloaded(model: nn.Sequential, device: torch.device, positions: Iterable[int]) -> BlockOffload:
    offload = BlockOffload(device)
    for position in positions:
        offload.take(model[position], position)
    offload.start()
    return offload


def bytes_on(device: torch.device, model: nn.Module) -> int:
    """Of distinct memory behind the tensors of `model`."""
    storages = {
        tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
        for tensor in (*model.parameters(), *model.buffers())
        if tensor.device.type == device.type
    }
    return sum(storages.values())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("blocks", "count"), [(5, 5), (6, 4), (6, 6), (3, 1), (4, 0)])
def test_outputs_are_the_same_bits_and_the_device_holds_two_places(
    device: torch.device, blocks: int, count: int
) -> None:
    x = torch.randn(16, 64, device=device)
    model = stack(blocks, device)
    whole = bytes_on(device, model)
    expected = model(x)
    offload = offloaded(model, device, reversed(spread(count, blocks)))  # in any order
    for _ in range(3):
        assert torch.equal(model(x), expected)
    per_block = whole // blocks
    held = bytes_on(device, model)
    assert held <= whole - count * per_block + (PLACES * (per_block + 2048) if count else 0)
    assert offload.host_bytes >= count * per_block


def test_a_block_that_is_skipped_is_not_fetched_and_the_next_pass_is_right() -> None:
    model = stack(6, CPU)
    x = torch.randn(4, 64)
    expected, short = model(x), model[1](model[0](x))
    offloaded(model, CPU, range(6))
    assert torch.equal(model(x), expected)
    assert torch.equal(model[1](model[0](x)), short)
    assert torch.equal(model(x), expected)


def test_each_block_is_copied_once_a_pass_to_the_same_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    model = stack(4, CPU)
    offloaded(model, CPU, range(4))
    copies: list[int] = []
    copy_to = PinnedBytes.copy_to

    def counted(self: PinnedBytes, memory: Tensor) -> None:
        copies.append(self.nbytes)
        copy_to(self, memory)

    monkeypatch.setattr(PinnedBytes, "copy_to", counted)
    addresses = [tensor.data_ptr() for tensor in model.parameters()]
    for passes in (1, 2):
        model(torch.randn(4, 64))
        assert len(copies) == passes * 4 + 1  # and the first of the next pass
        assert addresses == [tensor.data_ptr() for tensor in model.parameters()]


@pytest.mark.parametrize(("count", "total"), [(0, 40), (1, 40), (4, 40), (39, 40), (40, 40)])
def test_spread_is_even(count: int, total: int) -> None:
    positions = spread(count, total)
    assert len(set(positions)) == count
    gaps = {after - before for before, after in pairwise(positions)}
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert all(0 <= position < total for position in positions)
