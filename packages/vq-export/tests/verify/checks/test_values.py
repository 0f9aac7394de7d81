"""Values of tensors; each kind of problem is in test_verify.py."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_export.verify.checks.values import Values

Paths = dict[str, Path]

Rewrite = Callable[..., Path]
NAME = "blocks.0.ffn.0.weight"


def values_of(path: Path) -> Values:
    values = Values()
    for shard in ("block_0", "block_1", "non_block"):
        values.check_shard(open_checkpoint(path), "transformer", shard, "cpu")
    return values


def test_a_bfloat16_model_is_loaded_as_it_is(checkpoints: Paths) -> None:
    values = values_of(checkpoints["int8-i2v"])
    assert (values.problems, values.warnings, values.rounded) == ([], [], 0)
    assert values.read == 3 * 24 + 8 * 2 + 23


def test_folded_tensors_are_rounded_on_load_and_scales_and_gains_are_not(checkpoints: Paths) -> None:
    values = values_of(checkpoints["int8-smoothed"])
    assert values.problems == []
    # norm3 of each block, the text embedding's last layer, the image's last norm
    assert values.rounded == 2 * 2 + 2 + 2


def test_codes_at_the_end_of_the_range_are_warned_of(checkpoints: Paths, rewrite: Rewrite) -> None:
    def saturated(codes: torch.Tensor) -> torch.Tensor:
        return (4 * codes.float()).clamp(-127, 127).to(torch.int8)

    (warning,) = values_of(rewrite(checkpoints["int8-i2v"], lambda it: it.change(NAME, saturated))).warnings
    assert warning.startswith(f"`{NAME}` of transformer has ")
    assert "of its codes at the end of the range" in warning


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_rows_that_waste_the_range_are_warned_of(checkpoints: Paths, rewrite: Rewrite, scheme: str) -> None:
    def halved(codes: torch.Tensor) -> torch.Tensor:
        return (codes.float() * torch.where(torch.arange(len(codes))[:, None] < 3, 0.4, 1.0)).to(codes.dtype)

    (warning,) = values_of(rewrite(checkpoints[f"{scheme}-i2v"], lambda it: it.change(NAME, halved))).warnings
    assert (
        warning
        == f"`{NAME}` of transformer has 3 rows that use less than half of the range: their scales are too large."
    )
