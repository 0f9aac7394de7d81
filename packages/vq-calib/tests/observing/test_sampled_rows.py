import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vq_calib.observing.sampled_rows import unique_rows


def _as_dict(rows: Tensor, counts: Tensor) -> dict[tuple[float, ...], tuple[int, ...]]:
    return dict(zip(map(tuple, rows.tolist()), map(tuple, counts.tolist()), strict=True))


ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=30)


@given(ROWS, st.integers(0, 30))
def test_equal_rows_are_kept_once_and_their_counts_add_up(rows: list[tuple[int, ...]], cut: int) -> None:
    x = torch.tensor(rows).bfloat16()
    counts = torch.stack([torch.arange(len(rows)), torch.ones(len(rows), dtype=torch.int64)], dim=1)
    expected: dict[tuple[float, ...], tuple[int, ...]] = {}
    for index, row in enumerate(rows):
        before = expected.get(row, (0, 0))
        expected[row] = (before[0] + index, before[1] + 1)
    once, total = unique_rows(x, counts)
    assert once.dtype == torch.bfloat16
    assert len(once) == len(expected)
    assert _as_dict(once, total) == expected
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(cut))
    assert all(torch.equal(a, b) for a, b in zip(unique_rows(x[order], counts[order]), (once, total), strict=True))
    parts = [unique_rows(x[part], counts[part]) for part in (slice(0, cut), slice(cut, None)) if len(x[part])]
    merged = unique_rows(torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts]))
    assert all(torch.equal(a, b) for a, b in zip(merged, (once, total), strict=True))


def test_rows_are_compared_bit_by_bit() -> None:
    x = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [0.0, 1.0]]).bfloat16()
    rows, counts = unique_rows(x, torch.ones(3, 2, dtype=torch.int64))
    assert sorted(counts[:, 0].tolist()) == [1, 2]
    assert rows.shape == (2, 2)


def test_a_transposed_input_is_read_as_it_looks() -> None:
    x = torch.tensor([[1.0, 1.0], [2.0, 2.0]]).bfloat16().T
    rows, counts = unique_rows(x, torch.ones(2, 2, dtype=torch.int64))
    assert rows.tolist() == [[1.0, 2.0]]
    assert counts.tolist() == [[2, 2]]
