import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vq_calib.collection.collect import collect
from vq_calib.planning.calib_prompts import RunPart
from vq_calib.planning.run_plan import CollectRequest
from vq_calib.show import Row, by_place, describe, show, worst
from vq_core.artifacts.stats import GroupStats
from vq_core.errors import VqError

CRESTS = torch.zeros(8, 2, 16, dtype=torch.int64)
CRESTS[7, 0, 3], CRESTS[2, 1, 5], CRESTS[7, 1, 9] = 1990, 8, 2


def _described(absmax: Tensor, count: Tensor, crests: Tensor = CRESTS) -> Row:
    return describe(GroupStats(absmax, torch.zeros(absmax.shape, dtype=torch.float64), count), crests)


def test_a_row_follows_from_the_definitions() -> None:
    # Five channels, one of them dead; bucket 7 with an outlier in the unconditional branch, bucket 2 without.
    absmax = torch.zeros(8, 2, 5)
    absmax[7, 0] = torch.tensor([1.0, 2.0, 3.0, 0.0, 5.0])
    absmax[7, 1] = torch.tensor([1.0, 2.0, 3.0, 0.0, 60.0])
    absmax[2, 0] = torch.tensor([1.0, 1.0, 1.0, 0.0, 2.0])
    count = torch.zeros(8, 2, dtype=torch.int64)
    count[7] = 10
    count[2, 0] = 10
    row = _described(absmax, count)
    assert (row.blocks, row.channels, row.absmax, row.median_absmax) == (1, 5, 60.0, 2.5)
    assert row.ratio == 24.0
    assert row.outliers == 1
    assert row.crest == 8.0  # of 2000 tokens all but two are in bins up to the sixth, which ends at 2^(6/2)
    assert row.bucket_ratios == (None, None, 2.0, None, None, None, None, 24.0)


def test_ten_times_the_median_is_no_outlier() -> None:
    absmax = torch.ones(8, 2, 9)
    absmax[..., 0] = 10.0
    assert _described(absmax, torch.ones(8, 2)).outliers == 0
    absmax[..., 0] = 10.01
    assert _described(absmax, torch.ones(8, 2)).outliers == 1


def test_a_group_without_any_signal_has_no_ratio() -> None:
    row = _described(torch.zeros(8, 2, 4), torch.ones(8, 2), torch.zeros_like(CRESTS))
    assert (row.absmax, row.ratio, row.outliers, row.crest) == (0.0, 0.0, 0, None)


def _row(ratio: float, *, absmax: float = 1.0, bucket: float | None = None, crest: float | None = None) -> Row:
    return Row(1, 4, absmax, 0.5, ratio, 0, crest, (bucket,) * 8)


def test_blocks_join_by_place() -> None:
    rows = {
        "blocks.0.ffn.up": _row(2.0, absmax=9.0, bucket=None, crest=4.0),
        "blocks.11.ffn.up": _row(7.0, bucket=3.0, crest=8.0),
        "text": _row(1.0),
    }
    places = by_place(rows)
    assert list(places) == ["ffn.up", "text"]
    assert (places["ffn.up"].blocks, places["ffn.up"].ratio, places["ffn.up"].absmax) == (2, 7.0, 9.0)
    assert places["ffn.up"].bucket_ratios == (3.0,) * 8
    assert (places["ffn.up"].crest, places["text"].crest) == (8.0, None)
    assert places["text"].bucket_ratios == (None,) * 8


def test_the_worst_have_the_largest_ratio() -> None:
    rows = {name: _row(ratio) for name, ratio in (("a", 2.0), ("b", 9.0), ("c", 5.0))}
    assert list(worst(rows, 2)) == ["b", "c"]
    assert list(worst(rows, 9)) == ["b", "c", "a"]


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VqError, match="is not a activation-stats artifact"):
        show(tmp_path, every_group=False, top=None, as_json=False)


def test_tables_of_a_run(stats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(stats, every_group=False, top=None, as_json=False)
    by_default = capsys.readouterr().out
    assert "transformer, 2 prompts, sampled tokens: 214 fit, 66 held-out" in by_default
    assert "99.9% of the tokens" in by_default
    for place in ("attn1.qkv", "attn1.out", "attn2.q", "attn2.out", "ffn.up", "ffn.down", "text", "image"):
        assert f"\n{place} " in by_default
    assert "blocks." not in by_default
    assert "10 × the median" in by_default

    show(stats, every_group=True, top=None, as_json=False)
    every_group = capsys.readouterr().out
    assert every_group.count("\nblocks.") == 3 * 6

    show(stats, every_group=False, top=4, as_json=False)
    assert capsys.readouterr().out.count("\nblocks.") == 4


def test_json_of_a_run(stats: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show(stats, every_group=True, top=None, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert result["settings"]["total_prompts"] == 2
    assert result["sampled"] == {"transformer": {"fit": 214, "held-out": 66}}
    rows = result["components"]["transformer"]
    assert len(rows) == 3 * 6 + 2
    row = rows["blocks.0.ffn.down"]
    assert row["channels"] == 192
    assert row["ratio"] == pytest.approx(row["absmax"] / row["median_absmax"])
    assert 1 < row["crest"] <= 16
    assert len(row["bucket_ratios"]) == 8
    assert row["bucket_ratios"][7] > 1


def test_a_part_says_that_it_is_one(
    make_request: Callable[..., CollectRequest], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    collect(make_request(tokens=0, part=RunPart(1, 2)), tmp_path / "part")
    show(tmp_path / "part", every_group=False, top=None, as_json=False)
    assert "transformer, 2 of 3 prompts, sampled tokens: none" in capsys.readouterr().out
