"""What is noted beside a LoRA's tensors: the alpha of each transformer, and settings that are not merged."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vq_core.errors import VqError
from vq_core.model.lora_file import Lora
from vq_core.model.lora_request import LoraRequest

OpenLora = Callable[[str], Lora]
OTHERS: dict[str, Any] = {"text_encoder.lora_alpha": 4, "text_encoder.use_dora": True, "transformer_2.lora_alpha": 8}


@pytest.fixture
def lora_with(tmp_path: Path) -> OpenLora:
    """A LoRA in whose header diffusers has noted this text."""

    def open_lora(noted: str) -> Lora:
        tensors = {"transformer.blocks.0.attn1.to_q.lora_A.weight": torch.ones(4, 8)}
        save_file(tensors, tmp_path / "lora.safetensors", metadata={"lora_adapter_metadata": noted})
        return Lora(LoraRequest(tmp_path / "lora.safetensors"))

    return open_lora


@pytest.mark.parametrize(
    ("noted", "alphas"),
    [
        ({"transformer.lora_alpha": 32, "transformer_2.lora_alpha": 8}, {"transformer": 32, "transformer_2": 8}),
        ({"transformer.lora_alpha": 32}, {"transformer": 32, "transformer_2": 32}),
        ({"lora_alpha": 16}, {"transformer": 16, "transformer_2": 16}),
        ({"text_encoder.lora_alpha": 4}, {"transformer": None, "transformer_2": None}),
        ({**OTHERS, "transformer.lora_alpha": 32}, {"transformer": 32, "transformer_2": 8}),
        ({"transformer.lora_alpha": 32, **OTHERS}, {"transformer": 32, "transformer_2": 8}),
    ],
)
def test_each_expert_has_the_alpha_that_is_noted_for_it(
    lora_with: OpenLora, noted: dict[str, int], alphas: dict[str, int | None]
) -> None:
    lora = lora_with(json.dumps(noted))
    assert {component: lora.settings(component).alpha for component in alphas} == alphas


@pytest.mark.parametrize("setting", ["alpha_pattern", "use_rslora", "fan_in_fan_out", "layer_replication"])
def test_settings_of_peft_that_mean_another_sum_are_refused(lora_with: OpenLora, setting: str) -> None:
    value: Any = {"to_q": 2}
    assert lora_with(json.dumps({f"text_encoder.{setting}": value})).settings("transformer").alpha is None
    with pytest.raises(VqError, match=f"lora.safetensors was trained with PEFT's {setting}"):
        lora_with(json.dumps({f"transformer.{setting}": value})).settings("transformer")


def test_metadata_that_is_damaged_is_refused(lora_with: OpenLora) -> None:
    with pytest.raises(VqError, match="`lora_adapter_metadata` in .* is not JSON"):
        lora_with("{")
