import pytest
import torch

from vq_calib.observing.accumulator import Accumulator
from vq_calib.observing.reduction import eager_reduction
from vq_calib.planning.hashing import BREAK_TIES, token_hash
from vq_core.artifacts.sums import sum_names
from vq_core.topology import Group

VIDEO = Group("blocks.0.attn1.out", ("o",), None, 6)
TEXT = Group("text", ("k",), None, 4, sequence="text")
GROUPS = (VIDEO, TEXT)


def _hashes(x: torch.Tensor) -> torch.Tensor:
    return token_hash(BREAK_TIES, (), torch.arange(len(x)))


def test_taking_starts_anew_and_what_was_not_seen_is_zero() -> None:
    accumulator = Accumulator(GROUPS, eager_reduction())
    for group in GROUPS:
        x = torch.full((3, group.in_features), 3.0)
        accumulator.add(group, 0, x, _hashes(x))
    accumulator.take()
    x = torch.ones(2, 4)
    accumulator.add(TEXT, 0, x, _hashes(x))
    taken = accumulator.take()
    assert list(taken) == [
        *sum_names(VIDEO),
        "blocks.0.attn1.out.outlier_keys",
        "blocks.0.attn1.out.outliers",
        *sum_names(TEXT),
    ]
    assert taken["text.absmax"].tolist() == [[1.0] * 4, [0.0] * 4]
    assert taken["text.count"].tolist() == [2, 0]
    assert not taken["blocks.0.attn1.out.absmax"].any()
    assert taken["blocks.0.attn1.out.outliers"].shape == (0, 6)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_rows_that_are_not_finite_are_counted_for_the_first_group(value: float) -> None:
    accumulator = Accumulator(GROUPS, eager_reduction())
    assert accumulator.non_finite() is None
    for group, rows in ((TEXT, 1), (VIDEO, 3)):
        for branch in range(2):
            x = torch.ones(5, group.in_features)
            accumulator.add(group, branch, x, _hashes(x))
            assert (accumulator.non_finite() is None) == (group is TEXT and branch == 0)
            x[:rows, 1] = value
            accumulator.add(group, branch, x, _hashes(x))
            accumulator.add(group, branch, torch.ones_like(x), _hashes(x))
    found = accumulator.non_finite()
    assert found is not None
    assert (found[0].name, found[1]) == ("blocks.0.attn1.out", 6)
