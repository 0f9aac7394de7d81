"""What is noted beside a LoRA's tensors: the alpha of each transformer, and settings that are not merged."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from vq_core.errors import VqError
from vq_core.model.lora_file import Lora
from vq_core.model.lora_request import LoraRequest
from vq_core.model.lora_settings import MAX_CONFIG_BYTES, LoraSettings, peft_configs

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


@pytest.mark.parametrize(
    ("noted", "setting"),
    [
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights = pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "init_lora_weights = olora"),
        ({"peft_type": "LOKR"}, "peft_type = LOKR"),
    ],
)
def test_other_weights_to_start_from_and_other_methods_are_refused(
    lora_with: OpenLora, noted: dict[str, Any], setting: str
) -> None:
    with pytest.raises(VqError, match=f"lora.safetensors was trained with PEFT's {setting}"):
        lora_with(json.dumps(noted)).settings("transformer")
    usual = {"init_lora_weights": "gaussian", "peft_type": "LORA", "use_dora": True}
    assert lora_with(json.dumps(usual)).settings("transformer") == LoraSettings(None, use_dora=True)


@pytest.mark.parametrize("alpha", ['"32"', "0", "true", "[4]", "{}"])
def test_an_alpha_that_nothing_can_be_multiplied_by_is_refused(lora_with: OpenLora, alpha: str) -> None:
    with pytest.raises(VqError, match="`lora_alpha` of .*lora.safetensors is .*, and must be a number other than 0"):
        lora_with(f'{{"transformer.lora_alpha": {alpha}}}').settings("transformer")


@pytest.mark.parametrize(
    ("noted", "problem"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON .*nested"),
        ('{"a": 1, "a": 2}', "is not JSON .*`a` is there twice"),
        ('{"a": ' + "9" * 5000 + "}", "is not JSON .*does not fit 64 bits"),
        ('{"transformer.lora_alpha": NaN}', "is not JSON .*NaN is no number of JSON"),
        ("[1]", "is not a JSON object"),
        ("12", "is not a JSON object"),
    ],
    ids=["cut off", "deep", "twice", "long number", "NaN", "list", "number"],
)
def test_metadata_that_is_damaged_is_refused(lora_with: OpenLora, noted: str, problem: str) -> None:
    with pytest.raises(VqError, match=f"`lora_adapter_metadata` in .* {problem}") as refused:
        lora_with(noted)
    assert len(str(refused.value)) < 400


def test_a_configuration_by_its_name_has_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("[]")
    with pytest.raises(VqError, match="adapter_config.json is not a JSON object"):
        peft_configs(tmp_path)


def test_only_what_peft_has_written_is_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('{"peft_type": "LORA"}')
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "other.json").write_text('{"lora_alpha": 1}')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "huge.json").write_text(json.dumps({"peft_type": "x" * MAX_CONFIG_BYTES}))
    (tmp_path / "folder.json").mkdir()
    os.mkfifo(tmp_path / "pipe.json")
    assert list(peft_configs(tmp_path)) == [tmp_path / "mine.json"]
