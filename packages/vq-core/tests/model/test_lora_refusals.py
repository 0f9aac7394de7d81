"""Keys that match nothing are named in a warning, and what cannot be merged is refused by name."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import SourceTransformer, open_source

TO_Q = "blocks.1.attn1.to_q.weight"
PEFT = "transformer.blocks.1.attn1.to_q"
NATIVE = "diffusion_model.blocks.1.self_attn.q"
RANK = 4

OpenMerged = Callable[..., SourceTransformer]


def pair(stem: str) -> dict[str, Tensor]:
    """A pair in kohya's spelling for the module `stem`, whose weight is 64x64."""
    return {f"{stem}.lora_down.weight": torch.ones(RANK, 64), f"{stem}.lora_up.weight": torch.ones(64, RANK)}


DOWN, UP = f"{NATIVE}.lora_down.weight", f"{NATIVE}.lora_up.weight"
PAIR = pair(NATIVE)
REFUSALS = {
    "another architecture": (
        {"unet.down.q.lora_A.weight": torch.ones(2, 2)},
        "does not fit .*model: none of its keys .* of transformer",
    ),
    "empty": ({}, "holds no tensor: get the LoRA again"),
    "half a pair": ({UP: PAIR[UP]}, rf"`{UP}` .* has no partner \(down\) for `{TO_Q}`"),
    "the other half": ({DOWN: PAIR[DOWN]}, r"has no partner \(up\)"),
    "other width": (
        {DOWN: torch.ones(RANK, 65), UP: PAIR[UP]},
        rf"does not fit .*: its `{DOWN}` is \[4, 65\] and `{TO_Q}` is",
    ),
    "other height": ({DOWN: PAIR[DOWN], UP: torch.ones(65, RANK)}, rf"does not fit .*: its `{UP}` is"),
    "two ranks": ({DOWN: PAIR[DOWN], UP: torch.ones(64, RANK + 1)}, rf"its `{UP}` is \[64, 5\]"),
    "vectors": ({DOWN: torch.ones(64), UP: torch.ones(64)}, "does not fit"),
    "difference of another shape": (
        {f"{NATIVE}.diff": torch.ones(64, 32)},
        r"` is \[64, 64\], so give a LoRA of this model",
    ),
    "bias of another length": ({f"{NATIVE}.diff_b": torch.ones(32)}, "and `blocks.1.attn1.to_q.bias` is"),
    "bias without a pair": ({f"{NATIVE}.lora_B.bias": torch.ones(64)}, "has no low-rank pair"),
    "one tensor twice": (PAIR | {f"{PEFT}.lora_A.weight": PAIR[DOWN].clone()}, f"both change `{TO_Q}`"),
    "alpha of each row": (PAIR | {f"{NATIVE}.alpha": torch.ones(RANK)}, r"alpha` is \[4\] and"),
    "deeper": (
        PAIR | pair("diffusion_model.blocks.7.self_attn.q"),
        r"does not fit .*: `diffusion_model\.blocks\.7\..* is about a block that transformer, with its 2, does",
    ),
    "an unknown factor": (PAIR | {f"{NATIVE}.lokr_t1": torch.ones(2, 2)}, "lokr_t1` .* is of LoKr, LoHa or DoRA of an"),
    "oft": (PAIR | {f"{NATIVE}.oft_blocks": torch.ones(2, 2)}, "oft_blocks` .* is of OFT, which is not merged here"),
    "two methods": (PAIR | {f"{NATIVE}.lokr_w1": torch.ones(2, 2)}, "lokr_w1` .* both change"),
    "half a LoKr": ({f"{NATIVE}.lokr_w1": torch.ones(2, 2)}, r"has no partner \(lokr_w2\)"),
    "two forms of LoKr": (
        {f"{NATIVE}.{part}": torch.ones(8, 8) for part in ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2")},
        "lokr_w1` and .* are more than LoKr of",
    ),
    "LoKr of another size": (
        {f"{NATIVE}.{part}": torch.ones(8, 9) for part in ("lokr_w1", "lokr_w2")},
        r"lokr_w1` and the other factors of LoKr give \[64, 81\], and",
    ),
    "LoHa of two ranks": (
        {f"{NATIVE}.hada_w{it}": torch.ones(64, 64 + (it == "2_b")) for it in ("1_a", "1_b", "2_a", "2_b")},
        "factors of LoHa cannot be multiplied",
    ),
    "LoHa without a factor": (
        {f"{NATIVE}.hada_w{it}": torch.ones(64, 64) for it in ("1_a", "1_b", "2_a")},
        r"has no partner \(hada_w2_b\)",
    ),
    "magnitude alone": ({f"{NATIVE}.dora_scale": torch.ones(64, 1)}, "dora_scale` .* has no factors beside it"),
    "magnitude of another length": (
        PAIR | {f"{NATIVE}.dora_scale": torch.ones(1, 32)},
        r"dora_scale` is \[1, 32\] and",
    ),
    "magnitude and difference": (
        PAIR | {f"{NATIVE}.dora_scale": torch.ones(64, 1), f"{NATIVE}.diff": torch.ones(64, 64)},
        "dora_scale` and .*diff` .* both change",
    ),
    "magnitude twice": (
        PAIR | {f"{NATIVE}.dora_scale": torch.ones(64, 1), f"{NATIVE}.lora_magnitude_vector": torch.ones(64)},
        "both change",
    ),
    "rank 0": ({DOWN: torch.ones(0, 64), UP: torch.ones(64, 0)}, r" is \[0, 64\], which holds no value"),
    "alpha of 0": (
        PAIR | {f"{NATIVE}.alpha": torch.tensor(0.0)},
        "alpha` of .* is 0.0, and must be a number other than",
    ),
    "alpha that is no number": (PAIR | {f"{NATIVE}.alpha": torch.tensor(float("nan"))}, "alpha` .* NaN or infinite"),
    "quantized": ({DOWN: PAIR[DOWN].char(), UP: PAIR[UP]}, "is I8: give the LoRA in full or half precision"),
}


def test_keys_that_match_nothing_are_named_in_one_warning(merged: OpenMerged, caplog: Any) -> None:
    stray = {f"diffusion_model.blocks.{block}.audio.q.lora_A.weight": torch.ones(2, 2) for block in range(2)}
    alone = {"diffusion_model.blocks.0.self_attn.k.alpha": torch.tensor(4.0)}
    with caplog.at_level(logging.DEBUG, logger="vq_core.model"):
        merged(PAIR | stray | alone | {"lora_te_q.lora_down.weight": torch.ones(1, 1)})
    record, *each = caplog.records
    assert [line.message.split("`")[1] for line in each] == [*stray, "lora_te_q.lora_down.weight", *alone]
    said = "4 of 6 keys match nothing in transformer and are not merged, 1 of them for the text encoder: "
    assert said in record.message
    for pattern in ("`diffusion_model.blocks.N.audio.q.lora_A.weight` (2)", "N.self_attn.k.alpha`", "`lora_te_q."):
        assert pattern in record.message


@pytest.mark.parametrize("native", [True, False])
def test_nothing_is_said_where_all_is_merged(merged: OpenMerged, caplog: Any, native: bool) -> None:
    stem = NATIVE if native else PEFT
    merged(pair(stem) | {f"{stem}.alpha": torch.tensor(1.0)})
    assert not caplog.records


@pytest.mark.parametrize(("tensors", "sentence"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refused_by_name(merged: OpenMerged, tensors: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence) as refused:
        merged(tensors)
    assert "\n" not in str(refused.value)


def test_the_strength_of_a_dora_has_no_meaning(merged: OpenMerged) -> None:
    with pytest.raises(VqError, match=r"makes a DoRA of .*0.safetensors, .* and 0.5 is given: leave the strength out"):
        merged(PAIR | {f"{NATIVE}.dora_scale": torch.ones(64, 1)}, strength=0.5)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_when_read(merged: OpenMerged, value: float) -> None:
    checkpoint = merged(PAIR | {UP: torch.full((64, RANK), value)})
    with pytest.raises(VqError, match="lora_up"):
        checkpoint.plain([TO_Q])


def test_a_file_that_is_not_there_and_a_transformer_that_is_not(folder: Path, write_lora: Any, tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"There is no LoRA .*nowhere"):
        open_source(str(folder), [LoraRequest(tmp_path / "nowhere")])
    request = LoraRequest(write_lora(PAIR), component="high_noise")
    with pytest.raises(VqError, match="is for high_noise, and .* has transformer: name one of these"):
        open_source(str(folder), [request])
