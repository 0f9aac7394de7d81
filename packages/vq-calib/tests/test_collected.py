"""What a run writes, against the inputs of all linears as they were, and against what was estimated of it."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from vq_calib.collection.collect import collect
from vq_calib.estimate import estimate
from vq_calib.planning.run_plan import CollectRequest, plan_run
from vq_core.artifacts.stats import SPLITS, TABLE_COLUMNS, ActivationStats, open_stats
from vq_core.model.source import open_source
from vq_core.testing.tiny_models import VARIANTS, write_samples
from vq_core.topology import Group, Topology

MakeRequest = Callable[..., CollectRequest]
Record = Callable[..., dict[tuple[str, str], list[Any]]]


def _bf16(x: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(x).bfloat16()


@dataclass(frozen=True)
class Run:
    """A run, what it wrote, and everything that its linears read."""

    request: CollectRequest
    output: Path
    stats: ActivationStats
    recorded: dict[tuple[str, str], list[Any]]
    topologies: dict[str, Topology]


@pytest.fixture(params=VARIANTS, scope="module")
def run(
    request: pytest.FixtureRequest,
    make_request: MakeRequest,
    tmp_path_factory: pytest.TempPathFactory,
    record: Record,
) -> Run:
    asked = make_request(request.param, tokens=40, guidance_scale=3.0)
    output = tmp_path_factory.mktemp("run") / "stats"
    collect(asked, output)
    topologies = {name: checkpoint.topology for name, checkpoint in open_source(asked.model).components.items()}
    recorded = record(Path(asked.model), asked.prompts, asked.sampling)
    return Run(asked, output, open_stats(output), recorded, topologies)


def test_statistics_are_those_of_every_input(run: Run) -> None:
    for component, topology in run.topologies.items():
        for group in topology.groups:
            ours = run.stats.group(component, group.name)
            for linear in group.reads:
                _compare(ours, run.recorded[component, linear])
            assert ours.tokens == sum(len(seen.x) for seen in run.recorded[component, group.reads[0]]) > 0
            assert (ours.count.sum(dim=0) > 0).all()
        assert (ours.count.sum(dim=1) > 0).sum() >= (1 if len(run.topologies) == 2 else 3)


def test_rows_are_those_that_linears_read(run: Run) -> None:
    for component, topology in run.topologies.items():
        for group in topology.groups:
            seen = run.recorded[component, group.reads[0]]
            for quantity in ("absmax", "crest"):
                _check_histogram(run.stats.histogram(component, group.name, quantity), quantity, seen)
            if group.sequence == "video":
                _check_sampled(run.stats, component, group, seen)
                _check_outliers(run.stats.outliers(component, group.name), seen)
            else:
                _check_conditions(run.stats, component, group, seen)


def test_the_estimate_says_what_is_then_written(run: Run) -> None:
    expected = estimate(plan_run(run.request), None)
    for name, component in expected.components.items():
        sizes = {"sums": 0, "rows": 0, "outliers": 0, "conditions": 0}
        for path in (run.output / name).iterdir():
            for tensor_name, tensor in load_file(path).items():
                part = tensor_name.rpartition(".")[2]
                kind = {"fit": "rows", "held_out": "rows", "outliers": "outliers", "outlier_keys": "outliers"}
                condition = "conditions" if part in ("rows", "row_counts") else "sums"
                sizes[kind.get(part, condition)] += tensor.numel() * tensor.element_size()
        assert sizes["sums"] == component.sums_bytes
        assert sizes["rows"] == component.rows_bytes
        assert sizes["outliers"] == component.outliers_bytes
        assert 0 < sizes["conditions"] <= component.conditions_bytes
        count = run.stats.group(name, run.stats.groups(name)[0]).count
        assert {(stratum.bucket, stratum.branch) for stratum in component.strata} == {
            (bucket, ("cond", "uncond")[branch]) for bucket, branch in (count > 0).nonzero().tolist()
        }
        for split in ("fit", "held-out"):
            rows = sum(stratum.rows for stratum in component.strata if stratum.split == split)
            assert rows == run.stats.sampled(name, split)
    assert sum(component.calls for component in expected.components.values()) == 3 * 4 * 2
    assert (expected.steps, expected.prompts, expected.seconds) == (12, 3, None)


def _compare(ours: Any, recorded: list[Any]) -> None:
    for bucket in range(8):
        for branch in range(2):
            inputs = [seen.x.astype(float) for seen in recorded if (seen.bucket, seen.branch) == (bucket, branch)]
            assert ours.count[bucket, branch] == sum(len(x) for x in inputs)
            if not inputs:
                assert not ours.absmax[bucket, branch].any()
                continue
            x = np.concatenate(inputs)
            of_grid = 0.5 * 2**-16 * len(inputs) / len(x)  # the sum of each call moves by half a grid at most
            np.testing.assert_array_equal(ours.absmax[bucket, branch], np.abs(x).max(0))
            np.testing.assert_allclose(ours.mean_abs[bucket, branch], np.abs(x).mean(0), rtol=1e-6, atol=of_grid)


def _check_sampled(stats: ActivationStats, component: str, group: Group, seen: list[Any]) -> None:
    by_call = {(call.prompt, call.step, call.branch): call for call in seen}
    for split in SPLITS:
        name = split.replace("-", "_")
        table = stats.artifact.tensors(component, [f"tokens.{name}"])[f"tokens.{name}"]
        tokens = stats.tokens(component, group.name, split)
        assert len(table) == len(tokens.rows) > 0
        for row, bucket, entry in zip(tokens.rows, tokens.bucket, table.tolist(), strict=True):
            place = dict(zip(TABLE_COLUMNS, entry, strict=True))
            call = by_call[place["prompt"], place["step"], place["branch"]]
            assert bucket == place["bucket"] == call.bucket
            assert (place["prompt"] == 2) == (split == "held-out")
            assert torch.equal(row, _bf16(call.x[place["token"]]))


def _check_outliers(rows: Tensor, seen: list[Any]) -> None:
    absmax = np.sort(np.concatenate([np.abs(call.x).max(1) for call in seen]))[::-1]
    assert len(rows) == 64
    assert torch.equal(rows.abs().amax(1), _bf16(absmax[:64].copy()))
    assert {tuple(row) for row in rows.tolist()} <= {tuple(row) for call in seen for row in _bf16(call.x).tolist()}


def _check_histogram(counts: Tensor, quantity: str, seen: list[Any]) -> None:
    for bucket in range(8):
        for branch in range(2):
            inputs = [call.x.astype(float) for call in seen if (call.bucket, call.branch) == (bucket, branch)]
            if not inputs:
                assert not counts[bucket, branch].any()
                continue
            x = np.concatenate(inputs)
            value = np.abs(x).max(1)
            if quantity == "crest":
                value = value / np.sqrt((x**2).mean(1))
            low, bins = (-16, 64) if quantity == "absmax" else (0, 16)
            expected = np.bincount(
                np.clip(np.floor(2 * (np.log2(value) - low)), 0, bins - 1).astype(int), minlength=bins
            )
            assert np.abs(counts[bucket, branch].numpy() - expected).sum() <= 2  # one token at an edge, at most
            assert counts[bucket, branch].sum() == len(x)


def _check_conditions(stats: ActivationStats, component: str, group: Group, seen: list[Any]) -> None:
    first = min(call.step for call in seen)
    for split in SPLITS:
        expected: dict[tuple[float, ...], int] = {}
        for call in seen:
            if call.step == first and (call.prompt == 2) == (split == "held-out"):
                for row in _bf16(call.x).tolist():
                    expected[tuple(row)] = expected.get(tuple(row), 0) + 1
        tokens = stats.tokens(component, group.name, split)
        rows = [tuple(row) for row in tokens.rows.tolist()]
        assert sorted(rows) == sorted(expected)
        share = torch.tensor([float(expected[row]) for row in rows])
        torch.testing.assert_close(tokens.weight, share / share.mean())
        assert set(tokens.bucket.tolist()) == {-1}


def test_a_single_prompt_is_divided_by_token(make_request: MakeRequest, tmp_path: Path) -> None:
    one = write_samples(tmp_path / "prompts", 1, with_images=True)
    collect(replace(make_request("i2v", tokens=100000), prompts=one), tmp_path / "stats")
    stats = open_stats(tmp_path / "stats")
    sizes = {split: stats.sampled("transformer", split) for split in SPLITS}
    assert sum(sizes.values()) == stats.group("transformer", "blocks.0.ffn.up").tokens  # every token, in one of the two
    assert 0.1 < sizes["held-out"] / sum(sizes.values()) < 0.3
    text = stats.artifact.tensors("transformer", ["text.row_counts"])["text.row_counts"]
    assert text.sum() == 2 * 512
    assert 0.1 < text[:, 1].sum() / text.sum() < 0.3


def test_without_tokens_sums_and_outliers_remain(make_request: MakeRequest, tmp_path: Path) -> None:
    collected = collect(make_request("i2v", tokens=0), tmp_path / "stats")
    stats = open_stats(tmp_path / "stats")
    assert not stats.has_tokens
    assert collected.sampled == {"transformer": {"fit": 0, "held-out": 0}}
    assert collected.rows()["sampled tokens, transformer"] == "none"
    assert len(stats.outliers("transformer", "blocks.0.ffn.up")) == 64
    assert not [name for name in stats.artifact.manifest.components["transformer"].tensors if "rows" in name]
