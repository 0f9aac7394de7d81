"""Means of what all blocks read: taken if every block gains, read back as they were written."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vq_algos.rounding.means import Means
from vq_algos.rounding.sampled_inputs import SampledInputs
from vq_algos.rounding.shared_means import center_shared, read_means
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import open_weights
from vq_core.store.writer import ArtifactWriter, Header
from vq_core.topology import Group

PRODUCERS = {
    "text": "condition_embedder.text_embedder.linear_2.bias",
    "image": "condition_embedder.image_embedder.norm2.bias",
}
Answers = Callable[[Sequence[str]], bool]


@pytest.fixture
def means(smoothed: Path, stats: ActivationStats) -> Means:
    component = open_weights(smoothed).components["transformer"]
    return Means(component, SampledInputs("transformer", component, stats, "cpu"), "cpu")


def _centered(means: Means, answer: Answers) -> tuple[dict[str, Tensor], list[tuple[str, ...]], int]:
    """What changes where blocks `answer` so; the linears that were asked for, and for how many blocks it was told."""
    asked, blocks = [], []

    def current(name: str) -> Tensor:
        return means.weights.plain([name])[name].float()

    def is_better(group: Group, linears: Sequence[str], mean: Tensor) -> bool:
        expected = means.storable(group, current)
        assert expected is not None
        assert torch.equal(mean, expected)
        asked.append(tuple(linears))
        return answer(linears)

    return center_shared(means, current, is_better, lambda: blocks.append(1)), asked, len(blocks)


def test_they_are_taken_where_every_block_gains(means: Means) -> None:
    changed, asked, blocks = _centered(means, lambda _: True)
    of_block = (("attn2.to_k", "attn2.to_v"), ("attn2.add_k_proj", "attn2.add_v_proj"))
    assert asked == [tuple(f"blocks.{block}.{it}" for it in linears) for block in range(2) for linears in of_block]
    assert blocks == 2
    assert changed.keys() == {*PRODUCERS.values(), "text.mean", "image.mean"}
    for group, producer in PRODUCERS.items():
        before = means.weights.plain([producer])[producer].float()
        assert torch.equal(changed[producer], before - changed[f"{group}.mean"])
        assert (changed[f"{group}.mean"] != 0).any()


@pytest.mark.parametrize("block", [0, 1])
def test_one_block_that_loses_decides_for_all_and_no_other_is_asked_then(means: Means, block: int) -> None:
    changed, asked, blocks = _centered(means, lambda linears: f"blocks.{block}.attn2.to_k" not in linears)
    assert changed.keys() == {PRODUCERS["image"], "image.mean"}
    assert sum("to_k" in linears[0] for linears in asked) == block + 1
    assert blocks == 2


def test_they_are_read_back(means: Means, tmp_path: Path) -> None:
    writer = ArtifactWriter(tmp_path, Header("test", 1, "test", "wan", "model", {}))
    for file, answer in (("both", True), ("none", False)):
        changed, *_ = _centered(means, lambda _, answer=answer: answer)
        writer.write_tensors(f"{file}.safetensors", changed)
        found = read_means(writer, f"{file}.safetensors")
        assert found.keys() == ({"text", "image"} if answer else set())
        assert all(torch.equal(mean, changed[f"{group}.mean"]) for group, mean in found.items())
