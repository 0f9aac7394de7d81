from pathlib import Path

import pytest
import torch
from torch import Tensor

from vq_calib.observing.sampled_rows import all_distinct, joined_rows, prompt_rows
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


def _counts(rows: dict[str, Tensor]) -> dict[tuple[float, ...], list[int]]:
    return dict(zip(map(tuple, rows["text.rows"].tolist()), rows["text.row_counts"].tolist(), strict=True))


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
    assert _counts(rows) == {(1, 2): [5, 0], (3, 4): [1, 0]}


def test_prompts_are_joined_in_the_order_of_the_tables(pieces: list[Path], tmp_path: Path) -> None:
    first = tmp_path / "first.safetensors"
    write_tensors(first, prompt_rows(pieces[:2], [VIDEO, TEXT]))
    joined = joined_rows([first, pieces[2]], [VIDEO, TEXT], TABLES)
    assert joined["g.fit"].tolist() == [[0.0] * 3, [1.0] * 3, [2.0] * 3]
    assert joined["g.held_out"].tolist() == [[3.0] * 3, [4.0] * 3]
    assert joined["g.fit"].dtype == torch.bfloat16
    assert _counts(joined) == {(1, 2): [5, 0], (3, 4): [1, 7]}


def test_a_shard_without_the_condition_has_none(pieces: list[Path]) -> None:
    assert set(joined_rows([pieces[0], pieces[2]], [VIDEO], TABLES)) == {"g.fit", "g.held_out"}


def test_distinct_rows_of_files_of_which_some_have_none(pieces: list[Path]) -> None:
    assert all_distinct(pieces, TEXT)["text.row_counts"].sum(0).tolist() == [6, 7]
