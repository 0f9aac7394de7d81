"""What of a LoRA has no place in this Wan is left out, and each of it is named."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_core.model.lora_change import MAX_NAMED
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import SourceTransformer, open_source

OpenMerged = Callable[..., SourceTransformer]
TO_Q = "blocks.1.attn1.to_q.weight"
REST = {"diffusion_model.blocks.1.self_attn.q.diff": torch.ones(64, 64)}
PATCH = "diffusion_model.patch_embedding"
OF_TEXT = {
    "difference": {f"{PATCH}.diff": torch.ones(64, 16, 1, 2, 2), f"{PATCH}.diff_b": torch.ones(64)},
    "pair": {
        f"{PATCH}.lora_down.weight": torch.ones(4, 16, 1, 2, 2),
        f"{PATCH}.lora_up.weight": torch.ones(64, 4, 1, 1, 1),
        f"{PATCH}.alpha": torch.tensor(4.0),
    },
    "flat pair": {f"{PATCH}.lora_A.weight": torch.ones(4, 64), f"{PATCH}.lora_B.weight": torch.ones(64, 4)},
}


@pytest.mark.parametrize("patch", OF_TEXT.values(), ids=OF_TEXT.keys())
def test_a_lora_for_text_leaves_the_patch_embedding_for_images_alone(
    merged: OpenMerged, caplog: Any, patch: dict[str, Tensor]
) -> None:
    assert merged(REST | patch).merged == (TO_Q,)
    (record,) = caplog.records
    assert "its `patch_embedding` reads 16 channels and that of transformer" in record.message
    assert "reads 36" in record.message
    assert "`patch_embedding` is left out and the rest is merged" in record.message


def test_a_patch_embedding_of_another_width_is_another_model_s(merged: OpenMerged) -> None:
    with pytest.raises(VqError, match=r"does not fit .*patch_embedding.diff` is \[32, 16, 1, 2, 2\] and"):
        merged(REST | {f"{PATCH}.diff": torch.ones(32, 16, 1, 2, 2)})


def test_a_lora_of_wan_2_1_for_images_on_wan_2_2(tiny_model: Any, write_lora: Callable[..., Path], caplog: Any) -> None:
    of_the_image = {
        "diffusion_model.blocks.0.cross_attn.k_img.lora_down.weight": torch.ones(4, 64),
        "diffusion_model.blocks.0.cross_attn.norm_k_img.diff": torch.ones(64),
        "diffusion_model.img_emb.proj.1.diff_b": torch.ones(64),
    }
    request = LoraRequest(write_lora(REST | of_the_image), component="transformer_2")
    with caplog.at_level(logging.WARNING):
        assert open_source(str(tiny_model("i2v-2.2")), [request]).components["transformer_2"].merged == (TO_Q,)
    (record,) = caplog.records
    for part in ("k_img.lora_down", "norm_k_img.diff", "img_emb.proj.1.diff_b"):
        assert part in record.message


def test_many_names_are_cut_short(merged: OpenMerged, caplog: Any) -> None:
    strays = {f"text_encoder.layers.{it}.q.lora_A.weight": torch.ones(1) for it in range(3)}
    merged(REST | strays | {f"stray{it:03}.lora_A.weight": torch.ones(1) for it in range(MAX_NAMED + 5)})
    (record,) = caplog.records
    assert record.message.endswith("`stray049.lora_A.weight`, and 6 other names.")
    caplog.clear()
    merged(REST | strays)
    (record,) = caplog.records
    assert record.message.endswith("3 of them for the text encoder: `text_encoder.layers.N.q.lora_A.weight` (3).")


def test_a_lora_of_the_text_encoder_alone_is_refused(merged: OpenMerged) -> None:
    with pytest.raises(VqError, match="none of its keys is that of a tensor of transformer, the first is `lora_te_"):
        merged({"lora_te_text_model_q.lora_down.weight": torch.ones(2, 2)})


def test_magnitudes_that_are_noted_and_missing_are_refused(folder: Path, write_lora: Callable[..., Path]) -> None:
    path = write_lora(REST, lora_adapter_metadata='{"transformer.use_dora": true}')
    with pytest.raises(VqError, match="trained with PEFT's use_dora and holds no lora_magnitude_vector: get it whole"):
        open_source(str(folder), [LoraRequest(path)])


def test_a_key_that_may_stand_for_two_tensors_is_refused(merged: OpenMerged, monkeypatch: pytest.MonkeyPatch) -> None:
    from vq_core.model import lora_keys

    # No Wan has such names; one whose query and key projections were one word apart would.
    monkeypatch.setattr(lora_keys, "_plain", lambda name: name.replace("to_q", "to_k").replace("self_attn.q", "to_k"))
    with pytest.raises(VqError, match=r"may stand for `blocks.1.attn1.to_k.weight` and for `blocks.1.attn1.to_q.wei"):
        merged({"blocks.1.attn1.to_q.diff": torch.ones(64, 64)})
