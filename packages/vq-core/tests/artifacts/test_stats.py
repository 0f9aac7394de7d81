from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.stats import BRANCHES, BUCKETS, FORMAT, KIND, ActivationStats, open_stats, stats_header
from vq_core.errors import VqError
from vq_core.source import Source, open_source
from vq_core.statistics import all_statistics
from vq_core.store import create_artifact
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
    assert group.mean[7, 0, :4].tolist() == [-1.0, -0.5, 0.0, 0.5]
    assert group.second_moment[7, 0, :4].tolist() == [5.0, 6.5, 9.0, 12.5]
    assert (group.mean.dtype, group.absmax.dtype, group.count.dtype) == (torch.float64, torch.float32, torch.int64)
    assert (group.count[7, 0], group.tokens) == (2, 2)


def test_what_was_not_seen_is_zero_and_not_nan(stats: ActivationStats) -> None:
    group = stats.group("transformer", "blocks.1.ffn.down")
    for value in (group.absmax, group.mean_abs, group.mean, group.second_moment):
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


def test_a_damaged_file_is_refused(written: Path) -> None:
    path = written / "transformer" / "block_1.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(VqError, match="is not the file that was written"):
        open_stats(written).group("transformer", "blocks.1.ffn.down")


def test_another_artifact_is_refused(written: Path) -> None:
    with pytest.raises(VqError, match="holds activation-stats, and quant-params is needed"):
        open_qparams(written)
