import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_calib.planning.token_table import column, smallest, table_of

Row = tuple[int, ...]
ROWS = st.lists(st.tuples(*(st.integers(0, last) for last in (7, 1, 9, 2, 3, 5))), max_size=40, unique=True)


def _table(rows: list[Row]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 6)


def _chosen(rows: list[Row], k: int) -> list[Row]:
    table = _table(rows)
    return [tuple(row) for row in table[smallest(table, k)].tolist()]


@given(ROWS, st.integers(1, 4))
def test_every_stratum_keeps_its_smallest_keys_in_order(rows: list[Row], k: int) -> None:
    expected = []
    for stratum in sorted({row[:2] for row in rows}):
        expected += sorted(row for row in rows if row[:2] == stratum)[:k]
    assert _chosen(rows, k) == expected


@given(ROWS, st.integers(1, 4), st.integers(0, 40), st.randoms(use_true_random=False))
def test_choosing_from_choices_is_choosing_from_all(rows: list[Row], k: int, cut: int, random: object) -> None:
    random.shuffle(rows)  # type: ignore[attr-defined]
    assert _chosen(_chosen(rows[:cut], k) + _chosen(rows[cut:], k), k) == _chosen(rows, k)


def test_columns_by_name() -> None:
    table = table_of(2, bucket=7, branch=1, key=torch.tensor([5, 4]), prompt=3, step=2, token=torch.tensor([8, 9]))
    assert table.tolist() == [[7, 1, 5, 3, 2, 8], [7, 1, 4, 3, 2, 9]]
    assert column(table, "token").tolist() == [8, 9]
    assert table_of(0).shape == (0, 6)
