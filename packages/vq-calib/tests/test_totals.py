import hashlib
import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vq_calib.totals import Totals
from vq_core.tensor_file import load_tensors
from vq_core.topology import Group, Topology

GROUPS = (
    Group("blocks.0.attn1.out", ("o",), None, 5),
    Group("blocks.1.attn1.out", ("p",), None, 5),
    Group("text", ("k",), None, 3),
)
TOPOLOGIES = {name: Topology("wan", {}, (), GROUPS, 2) for name in ("transformer", "transformer_2")}
PROMPTS = 2


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


def _sums(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sums: dict[str, Tensor] = {}
    for group in GROUPS:
        sums[f"{group.name}.absmax"] = torch.rand(2, group.in_features, generator=generator)
        for name in ("sum", "abs_sum", "square_sum"):
            sums[f"{group.name}.{name}"] = torch.rand(2, group.in_features, generator=generator, dtype=torch.float64)
        sums[f"{group.name}.count"] = torch.randint(1, 100, (2,), generator=generator)
    return sums


def _run(folder: Path) -> None:
    """What `collect` does with totals: two prompts of two buckets, the second one of `transformer_2`."""
    totals = Totals(folder, TOPOLOGIES)
    if totals.complete:
        return
    for prompt in range(totals.prompts, PROMPTS):
        totals.add_bucket("transformer", 7, _sums(10 * prompt))
        totals.add_bucket("transformer_2", 3, _sums(10 * prompt + 1))
        totals.end_prompt()
    totals.finish()


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_prompts_add_up(tmp_path: Path) -> None:
    _run(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["transformer", "transformer_2"]
    file = tmp_path / "transformer_2" / "block_1.safetensors"
    group = "blocks.1.attn1.out"
    total = load_tensors(file, [f"{group}.{part}" for part in ("absmax", "sum", "count")])
    parts = [_sums(10 * prompt + 1) for prompt in range(PROMPTS)]
    assert torch.equal(total[f"{group}.absmax"][3], torch.stack([part[f"{group}.absmax"] for part in parts]).amax(0))
    assert torch.equal(total[f"{group}.sum"][3], sum((part[f"{group}.sum"] for part in parts), torch.zeros(2, 5)))
    assert torch.equal(
        total[f"{group}.count"][3], sum((part[f"{group}.count"] for part in parts), torch.zeros(2).long())
    )
    assert total[f"{group}.sum"].shape == (8, 2, 5)
    assert not total[f"{group}.sum"][[0, 1, 2, 4, 5, 6, 7]].any()


def test_a_bucket_that_comes_twice_adds_up(tmp_path: Path) -> None:
    totals = Totals(tmp_path, TOPOLOGIES)
    totals.add_bucket("transformer", 7, _sums(0))
    totals.add_bucket("transformer", 6, _sums(1))
    totals.add_bucket("transformer", 7, _sums(2))
    totals.end_prompt()
    totals.finish()
    count = load_tensors(tmp_path / "transformer" / "non_block.safetensors", ["text.count"])["text.count"]
    assert torch.equal(count[7], _sums(0)["text.count"] + _sums(2)["text.count"])
    assert torch.equal(count[6], _sums(1)["text.count"])


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

    monkeypatch.setattr("vq_core.tensor_file.sync", lambda path: count())
    monkeypatch.setattr(shutil, "rmtree", rmtree)


def test_killed_anywhere_and_resumed_gives_the_same_bytes(tmp_path: Path) -> None:
    _run(tmp_path / "whole")
    whole = _digests(tmp_path / "whole")
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
        assert _digests(folder) == whole, operations
        if finished:
            break
    assert 40 < operations < 999  # every operation of the run was killed once, and then none


def test_a_finished_prompt_is_not_lost(tmp_path: Path) -> None:
    totals = Totals(tmp_path, TOPOLOGIES)
    totals.add_bucket("transformer", 7, _sums(0))
    totals.end_prompt()
    totals.add_bucket("transformer", 7, _sums(1))
    again = Totals(tmp_path, TOPOLOGIES)
    assert (again.prompts, again.complete) == (1, False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["totals-1"]
