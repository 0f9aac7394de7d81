"""Pairs of massive hidden units: they cancel, fire for few tokens, and lie in different groups of a rotation."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import gelu

from vq_core.model.source import SourceTransformer, open_source
from vq_wan_tiny.massive_units import DOWN, GROUP, UP, add_massive_units, wan_tiny_units
from vq_wan_tiny.models import wan_tiny

BLOCK, PAIRS, HIDDEN = "blocks.0", 64, 640


@pytest.fixture(scope="module")
def checkpoint() -> SourceTransformer:
    return open_source(str(wan_tiny())).components["transformer"]


@pytest.fixture(scope="module")
def tensors(checkpoint: SourceTransformer) -> dict[str, Tensor]:
    return checkpoint.plain(checkpoint.topology.tensors)


@pytest.fixture(scope="module")
def widened(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return add_massive_units(tensors, wan_tiny_units(), seed=0)


def feed_forward(tensors: dict[str, Tensor], x: Tensor, block: str = BLOCK) -> Tensor:
    """By the formula, in fp64."""
    up, bias, down = (tensors[f"{block}.{part}"].double() for part in (f"{UP}.weight", f"{UP}.bias", f"{DOWN}.weight"))
    return gelu(x @ up.T + bias, approximate="tanh") @ down.T


def pairs_of(tensors: dict[str, Tensor], block: str) -> list[tuple[int, int]]:
    """Places of units with equal rows and biases and opposite columns."""
    up, bias, down = (tensors[f"{block}.{part}"].float() for part in (f"{UP}.weight", f"{UP}.bias", f"{DOWN}.weight"))
    units = torch.cat([up, bias[:, None], down.T], dim=1)
    opposite = torch.cat([up, bias[:, None], -down.T], dim=1)
    places: dict[tuple[float, ...], list[int]] = {}
    for j, unit in enumerate(opposite.tolist()):
        places.setdefault(tuple(unit), []).append(j)
    return [(i, j) for i, unit in enumerate(units.tolist()) for j in places.get(tuple(unit), []) if i < j]


def test_it_is_the_same_function(tensors: dict[str, Tensor], widened: dict[str, Tensor]) -> None:
    x = torch.randn(100, tensors[f"{BLOCK}.{UP}.weight"].shape[1], generator=torch.Generator().manual_seed(0)).double()
    for block in ("blocks.0", "blocks.4"):
        expected, found = (feed_forward(one, x, block) for one in (tensors, widened))
        assert (found - expected).norm() < 1e-12 * expected.norm()


def test_one_unit_of_a_pair_alone_would_change_it(tensors: dict[str, Tensor], widened: dict[str, Tensor]) -> None:
    x = torch.randn(100, tensors[f"{BLOCK}.{UP}.weight"].shape[1], generator=torch.Generator().manual_seed(0)).double()
    halved = dict(widened)
    halved[f"{BLOCK}.{DOWN}.weight"] = widened[f"{BLOCK}.{DOWN}.weight"].clone()
    for place, _ in pairs_of(widened, BLOCK):
        halved[f"{BLOCK}.{DOWN}.weight"][:, place] = 0
    expected = feed_forward(tensors, x)
    assert (feed_forward(halved, x) - expected).norm() > expected.norm()


def test_every_block_has_its_pairs_and_a_rotation_never_holds_both(widened: dict[str, Tensor]) -> None:
    for block in range(5):
        pairs = pairs_of(widened, f"blocks.{block}")
        assert len(pairs) == PAIRS
        assert all(i // GROUP != j // GROUP for i, j in pairs)


def test_the_other_units_are_the_model_s_own_in_their_order(
    tensors: dict[str, Tensor], widened: dict[str, Tensor]
) -> None:
    massive = {place for pair in pairs_of(widened, BLOCK) for place in pair}
    others = [place for place in range(HIDDEN + 2 * PAIRS) if place not in massive]
    assert torch.equal(widened[f"{BLOCK}.{UP}.weight"][others], tensors[f"{BLOCK}.{UP}.weight"])
    assert torch.equal(widened[f"{BLOCK}.{UP}.bias"][others], tensors[f"{BLOCK}.{UP}.bias"])
    assert torch.equal(widened[f"{BLOCK}.{DOWN}.weight"][:, others], tensors[f"{BLOCK}.{DOWN}.weight"])


def test_nothing_else_changes(tensors: dict[str, Tensor], widened: dict[str, Tensor]) -> None:
    changed = {name for name in tensors if not torch.equal(tensors[name], widened[name])}
    parts = (f"{UP}.weight", f"{UP}.bias", f"{DOWN}.weight")
    assert changed == {f"blocks.{block}.{part}" for block in range(5) for part in parts}
    assert all(widened[name].dtype == tensors[name].dtype for name in tensors)


def test_the_seed_decides_places_and_columns(tensors: dict[str, Tensor], widened: dict[str, Tensor]) -> None:
    again, other = (add_massive_units(tensors, wan_tiny_units(), seed) for seed in (0, 1))
    assert all(torch.equal(widened[name], again[name]) for name in widened)
    assert not torch.equal(widened[f"{BLOCK}.{DOWN}.weight"], other[f"{BLOCK}.{DOWN}.weight"])
