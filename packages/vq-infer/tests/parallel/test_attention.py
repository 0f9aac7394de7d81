"""Attention over shared tokens against attention in one process."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from vq_core.errors import VqError
from vq_core.runtime.process import this_process
from vq_infer.attention import load_attention
from vq_infer.parallel.attention import Ring, Ulysses
from vq_infer.parallel.plan import ParallelPlan
from vq_infer.parallel.team import team

pytestmark = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")

HEADS, DIM = 4, 8


def inputs(tokens: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(tokens)
    return tuple(torch.randn(2, tokens, HEADS, DIM, generator=generator) for _ in range(3))


class InOneProcess:
    NAME, ERROR = "attention", 0.0

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)).transpose(1, 2)


def own_share(tokens: int) -> tuple[Any, ...]:
    process = this_process()
    with team(ParallelPlan(ulysses=process.world_size), process, torch.device("cpu")) as here:
        assert here.mesh is not None
        shared = Ulysses(InOneProcess(), here.mesh.get_group("ulysses"), tokens)
        own = [x.tensor_split(process.world_size, dim=1)[process.rank] for x in inputs(tokens)]
        seen = shared.attend(*own).numpy()
    assert not dist.is_initialized()
    return process.rank, seen


@pytest.mark.parametrize(("world", "tokens"), [(2, 12), (2, 13), (4, 15)])
def test_ulysses_is_attention(together: Callable[..., list[Any]], world: int, tokens: int) -> None:
    expected = attend(*inputs(tokens))
    for rank, seen in together(world, own_share, tokens):
        assert torch.allclose(torch.from_numpy(seen), expected.tensor_split(world, dim=1)[rank], atol=1e-6)


def test_ring_of_eight_bits() -> None:
    with pytest.raises(VqError, match="--ring is for full-precision attention, not for 8-bit attention.*--ulysses"):
        Ring(load_attention("fp8"), None)
