import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vq_calib.collection.totals import Totals
from vq_calib.planning.token_plan import Tables
from vq_core.artifacts.sums import sum_names, zero_sums
from vq_core.errors import VqError
from vq_core.files.tensor_file import load_tensors, read_header
from vq_core.store.writer import ArtifactWriter, Header
from vq_core.topology import Group, Topology

GROUPS = (
    Group("blocks.0.attn1.out", ("o",), None, 5),
    Group("blocks.1.attn1.out", ("p",), None, 5),
    Group("text", ("k",), None, 3, sequence="text"),
)
TOPOLOGIES = {
    name: Topology("wan", {"blocks.0.scale": (1,), "blocks.1.scale": (1,)}, (), GROUPS)
    for name in ("transformer", "transformer_2")
}
PROMPTS = 2
TABLE = torch.arange(6 * 6).reshape(6, 6)
TABLES: dict[str, Tables] = {name: {"fit": TABLE[:4], "held-out": TABLE[4:]} for name in TOPOLOGIES}
POSITIONS = torch.tensor([[4, 0, 1], [3, 5, 2]])  # of the rows that each prompt samples


def _writer(folder: Path) -> ArtifactWriter:
    folder.mkdir(exist_ok=True)
    return ArtifactWriter(folder, Header("activation-stats", 2, "test", "wan", "model", {}))


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def _gathered(seed: int, positions: Tensor | None = None) -> dict[str, Tensor]:
    """What an observer hands over: multiples of a grid, as sums are, and sampled rows."""
    generator = torch.Generator().manual_seed(seed)
    gathered: dict[str, Tensor] = {}
    for group in GROUPS:
        for name, zero in zero_sums(group).items():
            gathered[name] = torch.randint(1, 100, zero.shape, generator=generator).to(zero.dtype)
        if group.sequence == "video":
            rows = torch.randn(40, group.in_features, generator=generator)
            keys = torch.randperm(10_000, generator=generator)[:40].sort(descending=True).values
            gathered |= {f"{group.name}.outlier_keys": keys, f"{group.name}.outliers": rows.bfloat16()}
            if positions is not None:
                gathered[f"{group.name}.sampled"] = rows[: len(positions)].bfloat16()
        elif positions is not None:
            gathered[f"{group.name}.rows"] = torch.tensor([[1.0, 2.0, 3.0], [seed, seed, seed]]).bfloat16()
            gathered[f"{group.name}.row_counts"] = torch.tensor([[4, 1], [1, 0]])
    return gathered if positions is None else gathered | {"positions": positions}


def _run(folder: Path) -> None:
    """What `collect` does with totals: two prompts of two buckets, the second one of `transformer_2`."""
    totals = Totals(_writer(folder), TOPOLOGIES, TABLES)
    if totals.complete:
        return
    for prompt in range(totals.prompts, PROMPTS):
        totals.add_bucket("transformer", 7, _gathered(10 * prompt, POSITIONS[prompt]))
        totals.add_bucket("transformer_2", 3, _gathered(10 * prompt + 1, POSITIONS[prompt]))
        totals.end_prompt()
    totals.finish()


def test_without_tables_only_sums_are_written_and_a_bucket_that_comes_twice_adds_up(tmp_path: Path) -> None:
    totals = Totals(_writer(tmp_path), TOPOLOGIES, None)
    for bucket, seed in ((7, 0), (6, 1), (7, 2)):
        totals.add_bucket("transformer", bucket, _gathered(seed))
    totals.end_prompt()
    assert sorted(path.name for path in tmp_path.iterdir()) == [".journal-0.jsonl", "totals-1"]
    totals.finish()
    assert set(read_header(tmp_path / "transformer" / "non_block.safetensors")) == set(sum_names(GROUPS[2]))
    count = load_tensors(tmp_path / "transformer" / "non_block.safetensors", ["text.count"])["text.count"]
    assert torch.equal(count[7], _gathered(0)["text.count"] + _gathered(2)["text.count"])
    assert torch.equal(count[6], _gathered(1)["text.count"])


def _without_journal(content: dict[str, bytes]) -> dict[str, bytes]:
    """A file that was written twice stands there twice."""
    return {name: value for name, value in content.items() if not name.startswith(".journal")}


def _kill_after(monkeypatch: pytest.MonkeyPatch, operations: int) -> None:
    """Raise `Killed` in place of the disk operation (flush or removal) that comes after `operations` others."""
    left = operations

    def count() -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    remove = shutil.rmtree

    def rmtree(path: Path, ignore_errors: bool = False) -> None:
        count()
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr("vq_core.files.tensor_file.sync", lambda path: count())
    monkeypatch.setattr(shutil, "rmtree", rmtree)


def test_killed_anywhere_and_resumed_gives_the_same_bytes(
    contents: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    _run(tmp_path / "whole")
    whole = _without_journal(contents(tmp_path / "whole"))
    for operations in range(1000):
        folder = tmp_path / str(operations)
        folder.mkdir()
        with pytest.MonkeyPatch.context() as patched:
            _kill_after(patched, operations)
            try:
                _run(folder)
            except Killed:
                finished = False
            else:
                finished = True
        _run(folder)
        assert _without_journal(contents(folder)) == whole, operations
        if finished:
            break
    assert 40 < operations < 999  # every operation of the run was killed once, and then none


def test_finished_prompts_are_neither_lost_nor_written_again(tmp_path: Path) -> None:
    totals = Totals(_writer(tmp_path), TOPOLOGIES, TABLES)
    for prompt in range(PROMPTS):
        for component in TOPOLOGIES:
            totals.add_bucket(component, 7, _gathered(prompt, POSITIONS[prompt]))
        totals.end_prompt()
        if prompt == 0:
            first = {path: path.stat().st_ino for path in (tmp_path / "rows-1").rglob("*.safetensors")}
    assert len(first) == 2 * 3
    assert {path: path.stat().st_ino for path in first} == first
    totals.add_bucket("transformer", 7, _gathered(PROMPTS, POSITIONS[0]))
    again = Totals(_writer(tmp_path), TOPOLOGIES, TABLES)
    assert (again.prompts, again.complete) == (PROMPTS, False)
    assert sorted(path.name for path in tmp_path.glob("[!.]*")) == ["rows-1", "rows-2", "totals-2"]


@pytest.mark.parametrize(
    "lost", ["totals-2/transformer/block_0.safetensors", "rows-1/transformer_2/non_block.safetensors"]
)
def test_refuses_to_go_on_without_what_finished_prompts_have_left(tmp_path: Path, lost: str) -> None:
    totals = Totals(_writer(tmp_path), TOPOLOGIES, TABLES)
    for prompt in range(PROMPTS):
        totals.add_bucket("transformer", 7, _gathered(prompt, POSITIONS[prompt]))
        totals.add_bucket("transformer_2", 7, _gathered(prompt, POSITIONS[prompt]))
        totals.end_prompt()
    (tmp_path / lost).unlink()
    with pytest.raises(
        VqError, match=f"{lost} of the prompts that were finished is missing: remove {tmp_path} and run"
    ):
        Totals(_writer(tmp_path), TOPOLOGIES, TABLES)


def test_a_file_of_the_artifact_that_is_gone_when_all_is_done_is_made_again(
    contents: Callable[[Path], dict[str, bytes]], tmp_path: Path
) -> None:
    _run(tmp_path / "a")
    whole = _without_journal(contents(tmp_path / "a"))
    (tmp_path / "a" / "transformer" / "block_1.safetensors").unlink()
    _run(tmp_path / "a")
    assert _without_journal(contents(tmp_path / "a")) == whole
