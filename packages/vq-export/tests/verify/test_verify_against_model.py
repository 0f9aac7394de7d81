"""A checkpoint in which every tensor is sound by itself, and which is not that of its model, is found out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_export.verify.reference import model_reference
from vq_export.verify.verification import Verification
from vq_export.verify.verify import verify

Q = "blocks.1.self_attn.q"
K = "blocks.1.self_attn.k"
GAIN = "blocks.0.affine_norm3"

Rewrite = Callable[..., Path]


def problems(checkpoint: Path, model: Path | None = None) -> list[str]:
    return verified(checkpoint, model).problems


def verified(path: Path, model: Path | None) -> Verification:
    checkpoint = open_checkpoint(path)
    return verify(checkpoint, model_reference(open_source(str(model)), checkpoint) if model else None)


def named_in(found: list[str]) -> set[str]:
    """The tensors; a problem of a whole block names none."""
    return {problem.split("`")[1] for problem in found if "`" in problem}


def swap(first: str, second: str) -> Callable[[Any], object]:
    def edit(content: Any) -> None:
        for part in ("weight", "weight_scale"):
            a, b = f"{first}.{part}", f"{second}.{part}"
            tensors = content.find(a)
            tensors[a], tensors[b] = tensors[b], tensors[a]

    return edit


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_swapped_linears(checkpoints: dict[str, Path], models: dict[str, Path], rewrite: Rewrite, scheme: str) -> None:
    path = rewrite(checkpoints[f"{scheme}-i2v"], swap(Q, K))
    assert problems(path) == []
    assert named_in(problems(path, models["i2v"])) == {"blocks.1.attn1.to_q", "blocks.1.attn1.to_k"}


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_a_forgotten_gain_of_the_image_values(
    checkpoints: dict[str, Path], models: dict[str, Path], smoothed_i2v: Any, rewrite: Rewrite, scheme: str
) -> None:
    gain = smoothed_i2v[scheme].gains["transformer"]["blocks.0.attn2.out"].log2().round().exp2()[:, None]
    path = rewrite(
        checkpoints[f"{scheme}-smoothed"],
        lambda content: content.change("blocks.0.cross_attn.v_img.weight_scale", lambda scale: scale / gain),
    )
    assert problems(path) == []
    assert named_in(problems(path, models["i2v"])) == {"blocks.0.attn2.add_v_proj"}


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("made", ["i2v", "smoothed"])
def test_one_doubled_scale(
    checkpoints: dict[str, Path], models: dict[str, Path], rewrite: Rewrite, scheme: str, made: str
) -> None:
    def doubled(scale: torch.Tensor) -> torch.Tensor:
        return scale * torch.where(torch.arange(len(scale))[:, None] == 7, 2.0, 1.0)

    path = rewrite(
        checkpoints[f"{scheme}-{made}"], lambda content: content.change("blocks.0.ffn.0.weight_scale", doubled)
    )
    found = verified(path, models["i2v"])
    assert named_in(found.problems) == {"blocks.0.ffn.net.0.proj"}
    assert found.weight_snr_db["transformer"]["blocks.0.ffn.net.0.proj"] > 15  # which alone would not stand out


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_one_doubled_gain(checkpoints: dict[str, Path], models: dict[str, Path], rewrite: Rewrite, scheme: str) -> None:
    def edit(content: Any) -> None:
        tensors = content.find(f"{GAIN}.weight")
        for part in ("weight", "bias"):
            content.put(f"{GAIN}.{part}", 7, 2 * float(tensors[f"{GAIN}.{part}"][7]))

    path = rewrite(checkpoints[f"{scheme}-smoothed"], edit)
    assert problems(path) == []
    assert named_in(problems(path, models["i2v"])) == {"blocks.0.ffn.net.0.proj"}


def test_another_model_is_refused(checkpoints: dict[str, Path], make_model: Callable[..., Path]) -> None:
    with pytest.raises(VqError, match="was made from another model"):
        problems(checkpoints["int8-i2v"], make_model("i2v", seed=1))
