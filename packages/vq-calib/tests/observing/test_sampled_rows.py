from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from vq_calib.observing.sampled_rows import joined_rows, prompt_rows, unique_rows
from vq_calib.planning.token_plan import Tables
from vq_core.files.tensor_file import write_tensors
from vq_core.topology import Group

VIDEO = Group("g", ("a",), None, 3)
TEXT = Group("text", ("b",), None, 2, sequence="text")
TABLES: Tables = {
    "fit": torch.arange(3 * 6).reshape(3, 6),
    "held-out": torch.arange(2 * 6).reshape(2, 6),
}


def _piece(positions: list[int], text: list[list[int]] | None = None) -> dict[str, Tensor]:
    """A row that belongs at position p is (p, p, p)."""
    place = torch.tensor(positions, dtype=torch.int64)
    piece = {"positions": place, "g.sampled": place.unsqueeze(1).expand(-1, 3).bfloat16()}
    if text is not None:
        rows = torch.tensor(text)
        piece |= {"text.rows": rows[:, :2].bfloat16(), "text.row_counts": rows[:, 2:]}
    return piece


def _as_dict(rows: Tensor, counts: Tensor) -> dict[tuple[float, ...], tuple[int, ...]]:
    return dict(zip(map(tuple, rows.tolist()), map(tuple, counts.tolist()), strict=True))


def _text(rows: dict[str, Tensor]) -> dict[tuple[float, ...], tuple[int, ...]]:
    return _as_dict(rows["text.rows"], rows["text.row_counts"])


@pytest.fixture
def pieces(tmp_path: Path) -> list[Path]:
    """Two buckets of a prompt, the second one without rows of the video, then one of another prompt."""
    paths = [tmp_path / f"{index}.safetensors" for index in range(3)]
    write_tensors(paths[0], _piece([4, 0], [[1, 2, 5, 0], [3, 4, 1, 0]]))
    write_tensors(paths[1], _piece([]))
    write_tensors(paths[2], _piece([1, 3, 2], [[3, 4, 0, 7]]))
    return paths


def test_buckets_of_a_prompt_are_put_together(pieces: list[Path]) -> None:
    rows = prompt_rows(pieces[:2], [VIDEO, TEXT])
    assert rows["positions"].tolist() == [4, 0]
    assert rows["g.sampled"].tolist() == [[4.0] * 3, [0.0] * 3]
    assert _text(rows) == {(1, 2): (5, 0), (3, 4): (1, 0)}


def test_prompts_are_joined_in_the_order_of_the_tables(pieces: list[Path], tmp_path: Path) -> None:
    first = tmp_path / "first.safetensors"
    write_tensors(first, prompt_rows(pieces[:2], [VIDEO, TEXT]))
    joined = joined_rows([first, pieces[2]], [VIDEO, TEXT], TABLES)
    assert joined["g.fit"].tolist() == [[0.0] * 3, [1.0] * 3, [2.0] * 3]
    assert joined["g.held_out"].tolist() == [[3.0] * 3, [4.0] * 3]
    assert joined["g.fit"].dtype == torch.bfloat16
    assert _text(joined) == {(1, 2): (5, 0), (3, 4): (1, 7)}
    assert set(joined_rows([first, pieces[2]], [VIDEO], TABLES)) == {"g.fit", "g.held_out"}


ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=30)


@given(ROWS, st.integers(0, 30))
def test_rows_are_told_once_and_counts_add_up(rows: list[tuple[int, ...]], cut: int) -> None:
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
