from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.artifacts.histograms import HISTOGRAMS
from vq_core.artifacts.stats import (
    BRANCHES,
    FORMAT,
    KIND,
    TABLE_COLUMNS,
    ActivationStats,
    Split,
    open_stats,
    stats_header,
)
from vq_core.errors import VqError
from vq_core.model.source import Source, open_source
from vq_core.sampling.schedule import BUCKETS
from vq_core.statistics import all_statistics
from vq_core.store.writer import create_artifact
from vq_core.topology import Group, shard_of

RandomTensors = Callable[..., dict[str, Tensor]]
WriteTransformer = Callable[..., Path]


@pytest.fixture
def source(
    tmp_path: Path, i2v_config: dict[str, Any], random_tensors: RandomTensors, write_transformer: WriteTransformer
) -> Source:
    return open_source(str(write_transformer(tmp_path / "model", i2v_config, random_tensors(i2v_config))))


def _sums(group: Group) -> dict[str, Tensor]:
    """Two tokens at sigma 1 in the conditional branch, (1, 2, 3, …) and (−3, …, −3), and none elsewhere."""
    tokens = torch.stack([torch.arange(1.0, group.in_features + 1), torch.full((group.in_features,), -3.0)])
    sums = {}
    for name, statistic in all_statistics().items():
        total = torch.zeros(BUCKETS, len(BRANCHES), group.in_features, dtype=statistic.DTYPE)
        total[7, 0] = statistic.reduce(tokens)
        sums[f"{group.name}.{name}"] = total
    count = torch.zeros(BUCKETS, len(BRANCHES), dtype=torch.int64)
    count[7, 0] = 2
    return sums | {f"{group.name}.count": count}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"steps": 4, "guidance_scale": 1.0, "height": 64}, {"steps": 4, "guidance_scale": 1.0}),
        ({"steps": 4, "guidance_scale": 0.0}, {"steps": 4, "guidance_scale": 0.0}),
        ({"steps": 40, "guidance_scale": 1.5}, {}),
        ({}, {}),
    ],
)
def test_sampling_without_guidance_is_told(
    tmp_path: Path, source: Source, settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    with create_artifact(tmp_path / "stats", stats_header("t", source, settings)):
        pass
    assert open_stats(tmp_path / "stats").unguided_sampling == expected


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"flow_shift": 3.0, "boundary_ratio": 0.9, "steps": 4}, {"flow_shift": 3.0, "boundary_ratio": 0.9}),
        ({"flow_shift": 3.0, "boundary_ratio": None}, {"flow_shift": 3.0}),
        ({}, {}),  # of statistics that were collected before these were recorded
    ],
)
def test_noise_levels_are_told_where_they_were_recorded(
    tmp_path: Path, source: Source, settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    with create_artifact(tmp_path / "stats", stats_header("t", source, settings)):
        pass
    assert open_stats(tmp_path / "stats").noise_levels == expected


@pytest.fixture
def written(tmp_path: Path, source: Source) -> Path:
    """Statistics in which the group `image` was never seen."""
    topology = source.components["transformer"].topology
    with create_artifact(tmp_path / "stats", stats_header("t", source, {"steps": 4})) as writer:
        for shard in topology.shards():
            content: dict[str, Tensor] = {}
            for group in topology.groups:
                if shard_of(group.name) == shard:
                    sums = _sums(group)
                    content |= {name: total * (group.name != "image") for name, total in sums.items()}
            writer.write_tensors(f"transformer/{shard}.safetensors", content)
    return tmp_path / "stats"


@pytest.fixture
def stats(written: Path) -> ActivationStats:
    return open_stats(written)


def test_the_header_says_which_model(stats: ActivationStats, source: Source) -> None:
    manifest = stats.artifact.manifest
    assert (manifest.kind, manifest.format, manifest.tool, manifest.family) == (KIND, FORMAT, "t", "wan")
    assert manifest.settings == {"steps": 4}
    assert manifest.components["transformer"].fingerprint == source.fingerprints["transformer"]
    assert manifest.components["transformer"].folder == "transformer"


def test_groups_are_those_of_the_topology(stats: ActivationStats, source: Source) -> None:
    groups = source.components["transformer"].topology.groups
    assert stats.groups("transformer") == tuple(group.name for group in groups)
    for group in groups:
        assert stats.group("transformer", group.name).absmax.shape == (BUCKETS, len(BRANCHES), group.in_features)


def test_means_are_sums_over_the_count(stats: ActivationStats) -> None:
    group = stats.group("transformer", "blocks.1.ffn.down")
    assert group.absmax[7, 0, :4].tolist() == [3.0, 3.0, 3.0, 4.0]
    assert group.mean_abs[7, 0, :4].tolist() == [2.0, 2.5, 3.0, 3.5]
    assert (group.mean_abs.dtype, group.absmax.dtype, group.count.dtype) == (torch.float64, torch.float32, torch.int64)
    assert (group.count[7, 0], group.tokens) == (2, 2)


def test_what_was_not_seen_is_zero_and_not_nan(stats: ActivationStats) -> None:
    group = stats.group("transformer", "blocks.1.ffn.down")
    for value in (group.absmax, group.mean_abs):
        assert not value[:7].any()
        assert not value[7, 1].any()


def test_absmax_is_over_buckets_and_branches(stats: ActivationStats) -> None:
    absmax = stats.absmax("transformer", "text")
    assert absmax[:5].tolist() == [3.0, 3.0, 3.0, 4.0, 5.0]
    assert torch.equal(absmax, stats.group("transformer", "text").overall_absmax)


def test_absmax_of_a_group_that_was_never_seen_is_refused(stats: ActivationStats) -> None:
    with pytest.raises(VqError, match="saw no input of image in transformer"):
        stats.absmax("transformer", "image")


def test_an_unknown_group_is_refused(stats: ActivationStats) -> None:
    with pytest.raises(VqError, match=r"no tensor `blocks\.9\.ffn\.up\.absmax`"):
        stats.absmax("transformer", "blocks.9.ffn.up")


def test_one_shard_can_be_verified_before_it_is_read(written: Path) -> None:
    file = written / "transformer" / "block_1.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    stats = open_stats(written)
    stats.verify("transformer", "block_0")
    with pytest.raises(VqError, match="is not the file that was written"):
        stats.verify("transformer", "block_1")


TABLES: dict[str, list[list[int]]] = {
    "fit": [[2, 0, 5, 0, 3, 1], [7, 0, 1, 0, 0, 4], [7, 0, 9, 0, 0, 2], [7, 1, 2, 0, 1, 0]],
    "held_out": [[7, 0, 3, 1, 0, 0]],
}


def _rows(group: Group, count: int) -> Tensor:
    """Row j of every group is j + 1 times (1, 0, …, 0, -2)."""
    rows = torch.zeros(count, group.in_features, dtype=torch.bfloat16)
    rows[:, 0] = torch.arange(1, count + 1)
    rows[:, -1] = -2 * rows[:, 0]
    return rows


def _sampled(group: Group) -> dict[str, Tensor]:
    content = {
        f"{group.name}.{name}_histogram": torch.ones(BUCKETS, len(BRANCHES), octaves.bins, dtype=torch.int64)
        for name, octaves in HISTOGRAMS.items()
    }
    if group.sequence == "video":
        content |= {f"{group.name}.{split}": _rows(group, len(table)) for split, table in TABLES.items()}
        return content | {f"{group.name}.outliers": _rows(group, 2).flip(0)}
    counts = torch.tensor([[6, 0], [2, 3], [0, 1]]) if group.name == "text" else torch.tensor([[1, 0]])
    return content | {f"{group.name}.rows": _rows(group, len(counts)), f"{group.name}.row_counts": counts}


@pytest.fixture
def sampled(tmp_path: Path, source: Source) -> ActivationStats:
    """Statistics with sampled rows; the image has none held out."""
    topology = source.components["transformer"].topology
    with create_artifact(tmp_path / "stats", stats_header("t", source, {})) as writer:
        for shard in topology.shards():
            content: dict[str, Tensor] = {}
            for group in topology.groups:
                if shard_of(group.name) == shard:
                    content |= _sums(group) | _sampled(group)
            if shard == "non_block":
                content |= {f"tokens.{split}": torch.tensor(table) for split, table in TABLES.items()}
            writer.write_tensors(f"transformer/{shard}.safetensors", content)
    return open_stats(tmp_path / "stats")


def test_video_tokens_carry_their_bucket_and_every_bucket_weighs_the_same(sampled: ActivationStats) -> None:
    tokens = sampled.tokens("transformer", "blocks.0.ffn.up", "fit")
    assert tokens.rows.dtype == torch.bfloat16
    assert tokens.rows[:, 0].tolist() == [1, 2, 3, 4]
    assert tokens.bucket.tolist() == [2, 7, 7, 7]
    assert TABLE_COLUMNS[0] == "bucket"
    # Four rows in two buckets: 2 a bucket, shared by those in it.
    torch.testing.assert_close(tokens.weight, torch.tensor([2, 2 / 3, 2 / 3, 2 / 3]))
    assert tokens.weight.dtype == torch.float32
    assert sampled.has_tokens
    assert [sampled.sampled("transformer", split) for split in ("fit", "held-out")] == [4, 1]


def test_rows_of_a_condition_weigh_what_they_stand_for(sampled: ActivationStats) -> None:
    fit = sampled.tokens("transformer", "text", "fit")
    assert fit.rows[:, 0].tolist() == [1, 2]
    assert fit.bucket.tolist() == [-1, -1]
    assert fit.weight.tolist() == [1.5, 0.5]
    held_out = sampled.tokens("transformer", "text", "held-out")
    assert held_out.rows[:, 0].tolist() == [2, 3]
    assert held_out.weight.tolist() == [1.5, 0.5]


def test_outliers_come_highest_first(sampled: ActivationStats) -> None:
    assert sampled.outliers("transformer", "blocks.1.attn1.qkv")[:, 0].tolist() == [2, 1]
    assert sampled.outliers("transformer", "text")[:, 0].tolist() == [3, 2, 1]


def test_histograms_are_read_by_quantity(sampled: ActivationStats) -> None:
    for quantity in ("absmax", "crest"):
        shape = sampled.histogram("transformer", "text", quantity).shape
        assert shape == (BUCKETS, len(BRANCHES), HISTOGRAMS[quantity].bins)


@pytest.mark.parametrize("group", ["blocks.0.ffn.up", "text"])
@pytest.mark.parametrize("split", ["fit", "held-out"])
def test_statistics_without_tokens_are_refused(stats: ActivationStats, group: str, split: Split) -> None:
    assert not stats.has_tokens
    assert stats.sampled("transformer", split) == 0
    with pytest.raises(VqError, match="holds no sampled tokens: collect again with --tokens"):
        stats.tokens("transformer", group, split)


def test_outliers_of_a_condition_need_its_rows(stats: ActivationStats) -> None:
    with pytest.raises(VqError, match="holds no sampled tokens"):
        stats.outliers("transformer", "text")


def test_a_split_that_is_not_there_is_refused(sampled: ActivationStats) -> None:
    with pytest.raises(VqError, match="no held-out tokens of image in transformer: merge it with the other parts"):
        sampled.tokens("transformer", "image", "held-out")
