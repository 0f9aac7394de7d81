"""What centering has moved in a checkpoint fits together, and whatever does not is named."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.model.source import open_source
from vq_export.targets.lightx2v import export
from vq_export.verify.checks.block_error import block_error
from vq_export.verify.checks.centering import Centered
from vq_export.verify.checks.fidelity import compare
from vq_export.verify.reference import model_reference, unrounded_reference

Paths = dict[str, Path]


@pytest.fixture(scope="module", params=["int8", "fp8"])
def artifacts(request: pytest.FixtureRequest, make_artifacts: Callable[..., Any], models: Paths) -> Any:
    return make_artifacts(models["i2v"], request.param, center=True)


@pytest.fixture(scope="module")
def centered(artifacts: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of which every input was centered that can be."""
    path = tmp_path_factory.mktemp("centered") / "checkpoint"
    export(artifacts.opened(), path)
    return path


def differing(path: Path, model: Path) -> set[str]:
    checkpoint = open_checkpoint(path)
    return set(compare(checkpoint, model_reference(open_source(str(model)), checkpoint))["transformer"].other)


def test_it_is_known_what_was_moved(centered: Path) -> None:
    found = Centered(open_checkpoint(centered), "transformer")
    endings = {group.name.removeprefix("blocks.0.").removeprefix("blocks.1.") for group in found.groups}
    assert endings == {"attn1.qkv", "attn1.out", "attn2.q", "attn2.out", "ffn.up", "text", "image"}
    assert {"blocks.0.scale_shift_table", "blocks.1.norm2.bias", "blocks.1.attn1.to_v.bias"} <= found.tensors
    assert "condition_embedder.text_embedder.linear_2.bias" in found.tensors
    assert "blocks.0.ffn.net.2.bias" not in found.tensors


def test_all_of_it_fits(centered: Path, artifacts: Any, models: Paths) -> None:
    assert differing(centered, models["i2v"]) == set()
    checkpoint = open_checkpoint(centered)
    assert compare(checkpoint, unrounded_reference(artifacts.opened()))["transformer"].other == []
    reference = model_reference(open_source(str(models["i2v"])), checkpoint)
    assert block_error(checkpoint, "transformer", reference, 1).wrong == []


def _row(row: int) -> Callable[[Tensor], Tensor]:
    def change(tensor: Tensor) -> Tensor:
        changed = tensor.clone()
        changed.view(6, -1)[row] *= -1
        return changed

    return change


def _negated(tensor: Tensor) -> Tensor:
    return -tensor


BLOCK = "blocks.1."


@pytest.mark.parametrize(
    ("native", "change", "named"),
    [
        ("modulation", _row(0), {"attn1.to_q.bias", "attn1.to_k.bias"}),
        ("modulation", _row(1), {"scale_shift_table"}),
        ("modulation", _row(3), {"ffn.net.0.proj.bias"}),
        ("norm3.bias", _negated, {"attn2.to_q.bias"}),
        ("self_attn.q.bias", _negated, {"attn1.to_q.bias"}),
        ("self_attn.v.bias", _negated, {"attn1.to_out.0.bias"}),
        ("self_attn.o.bias", _negated, {"attn1.to_out.0.bias"}),
        ("cross_attn.v.bias", _negated, {"attn2.to_out.0.bias"}),
        ("ffn.0.bias", _negated, {"ffn.net.0.proj.bias"}),
    ],
)
def test_what_does_not_fit_is_named(
    centered: Path,
    models: Paths,
    rewrite: Callable[..., Path],
    native: str,
    change: Callable[[Tensor], Tensor],
    named: set[str],
) -> None:
    path = rewrite(centered, lambda content: content.change(f"{BLOCK}{native}", change))
    assert {f"{BLOCK}{name}" for name in named} <= differing(path, models["i2v"])


@pytest.mark.parametrize(
    ("native", "named"),
    [
        ("text_embedding.2.bias", {"blocks.0.attn2.to_k.bias", "blocks.1.attn2.to_k.bias"}),
        (
            "img_emb.proj.4.bias",
            {f"blocks.{block}.attn2.add_{part}_proj.bias" for block in range(2) for part in ("k", "v")},
        ),
        ("blocks.0.cross_attn.k.bias", {"blocks.0.attn2.to_k.bias"}),
        ("blocks.1.cross_attn.v_img.bias", {"blocks.1.attn2.add_v_proj.bias"}),
    ],
)
def test_what_all_blocks_read_is_held_against_their_biases_in_each(
    centered: Path, models: Paths, rewrite: Callable[..., Path], native: str, named: set[str]
) -> None:
    """A value projection of the text is a producer too: its bias tells what follows it, and nothing of itself."""
    path = rewrite(centered, lambda content: content.change(native, _negated))
    found = differing(path, models["i2v"])
    follows = {f"blocks.{block}.attn2.to_out.0.bias" for block in range(2)}
    assert found - follows == named
