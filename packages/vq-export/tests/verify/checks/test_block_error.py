"""A block as LightX2V computes it from the files has the error that rounding explains, and no other."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.model.source import open_source
from vq_export.targets.lightx2v import export
from vq_export.verify.checks.block_error import (
    MAX_EXCESS_DB,
    MAX_EXCESS_NEAREST_DB,
    BlockError,
    block_error,
    cast_snr_db,
)
from vq_export.verify.reference import model_reference, unrounded_reference

Paths = dict[str, Path]
Rewrite = Callable[..., Path]
BLOCK = 1
RAMP = torch.linspace(0.25, 4, 64)


def error_of(path: Path, model: Path) -> BlockError:
    checkpoint = open_checkpoint(path)
    return block_error(checkpoint, "transformer", model_reference(open_source(str(model)), checkpoint), BLOCK)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("made", ["i2v", "smoothed", "across", "t2v", "i2v-2.2", "ti2v-5b"])
def test_a_faithful_checkpoint_has_the_error_of_rounding_to_nearest(
    checkpoints: Paths, models: Paths, scheme: str, made: str
) -> None:
    found = error_of(checkpoints[f"{scheme}-{made}"], models["i2v" if made in ("smoothed", "across") else made])
    assert found.wrong == []
    assert found.limit_db == MAX_EXCESS_NEAREST_DB
    assert {"self_queries", "cross_keys", "self_attention", "cross_attention", "feed_forward"} < found.branches.keys()
    # The codes are the same; what differs is the order of casts and products, and where smoothing folded into a bias,
    # the last digit of a gain that is recovered from it.
    assert all(
        abs(error.excess_db) < (0.6 if made in ("smoothed", "across") else 0.3) for error in found.branches.values()
    )
    assert all(15 < error.snr_db < 60 for error in found.branches.values())


def test_smoothed_weights_serve_as_well(checkpoints: dict[str, Path], smoothed_i2v: dict[str, Any]) -> None:
    reference = unrounded_reference(smoothed_i2v["int8"].opened())
    assert block_error(open_checkpoint(checkpoints["int8-smoothed"]), "transformer", reference, BLOCK).wrong == []


def swap(first: str, second: str) -> Callable[[Any], None]:
    def edit(content: Any) -> None:
        for part in ("weight", "weight_scale", "bias"):
            a, b = f"{first}.{part}", f"{second}.{part}"
            tensors = content.find(a)
            tensors[a], tensors[b] = tensors[b], tensors[a]

    return edit


def set_gain(norm: str, value: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Any], None]:
    def edit(content: Any) -> None:
        for part in ("weight", "bias"):
            content.change(f"blocks.{BLOCK}.{norm}.{part}", value)

    return edit


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize(
    ("edit", "branch"),
    [
        (set_gain("affine_norm1", torch.ones_like), "self_attention"),
        (set_gain("affine_norm3", torch.ones_like), "feed_forward"),
        (lambda content: content.change(f"blocks.{BLOCK}.affine_norm3.bias", torch.zeros_like), "feed_forward"),
        (set_gain("norm3", lambda norm: norm * RAMP), "cross_queries"),
        (swap(f"blocks.{BLOCK}.self_attn.q", f"blocks.{BLOCK}.self_attn.k"), "self_queries"),
        (swap(f"blocks.{BLOCK}.self_attn.v", f"blocks.{BLOCK}.self_attn.o"), "self_attention"),
        (swap(f"blocks.{BLOCK}.cross_attn.v", f"blocks.{BLOCK}.cross_attn.v_img"), "cross_attention"),
        (lambda content: content.change("text_embedding.2.weight", lambda w: w * RAMP[:, None]), "cross_attention"),
    ],
    ids=["gain of norm1", "gain of norm3", "zero bias", "fold of norm3", "q and k", "v and o", "v and v_img", "text"],
)
def test_what_is_lost_or_swapped_is_no_rounding(
    checkpoints: Paths, models: Paths, rewrite: Rewrite, scheme: str, edit: Callable[[Any], None], branch: str
) -> None:
    found = error_of(rewrite(checkpoints[f"{scheme}-smoothed"], edit), models["i2v"])
    assert branch in found.wrong
    # More than the limit of rounders that do not round to nearest; a gain of zero leaves nothing to compare with.
    assert math.isnan(found.branches[branch].excess_db) or found.branches[branch].excess_db > MAX_EXCESS_DB


def test_the_cast_to_bfloat16_costs_little_and_is_seen(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    smoothed = cast_snr_db(open_checkpoint(checkpoints["int8-smoothed"]), "transformer", BLOCK)
    assert 40 < smoothed < 80
    # A model in bfloat16 that was not smoothed holds nothing that the cast would change.
    assert cast_snr_db(open_checkpoint(checkpoints["int8-i2v"]), "transformer", BLOCK) > 110
    name = f"blocks.{BLOCK}.modulation"
    path = rewrite(checkpoints["int8-i2v"], lambda it: it.change(name, lambda table: table.float() + 1000.7))
    assert cast_snr_db(open_checkpoint(path), "transformer", BLOCK) < 80


def test_a_branch_of_zeros_is_exact_or_wrong(
    models: Paths, convert: Callable[..., Any], rewrite: Rewrite, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(models["t2v"], tmp_path / "model"))
    (file,) = (model / "transformer").glob("*.safetensors")
    tensors = load_file(file)
    tensors[f"blocks.{BLOCK}.attn1.norm_q.weight"].zero_()
    save_file(tensors, file)
    export(convert(model), tmp_path / "out")
    found = error_of(tmp_path / "out", model)
    assert found.wrong == []
    assert found.branches["self_queries"].snr_db == math.inf
    broken = rewrite(tmp_path / "out", lambda content: content.put(f"blocks.{BLOCK}.self_attn.norm_q.weight", 3, 1.0))
    found = error_of(broken, model)
    assert found.branches["self_queries"].snr_db == -math.inf
    assert "self_queries" in found.wrong
