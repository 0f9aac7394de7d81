"""What a file's name and metadata say of the expert that it is for."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from vq_core.model.expert_names import MAX_NOTE, expert_in, expert_noted, expert_of

HIGH, LOW = "transformer", "transformer_2"


@pytest.mark.parametrize(
    ("name", "expert"),
    [
        ("high_noise_model", HIGH),
        ("low_noise_model", LOW),
        ("wan2.2_i2v_A14b_high_noise_lora_rank64_lightx2v_4step_1022", HIGH),
        ("Wan2.2-Lightning_I2V-A14B-4steps-lora_HIGH_fp16", HIGH),
        ("Wan22-HighNoise-v2", HIGH),
        ("style.low", LOW),
        ("mine_low_high-noise", HIGH),
        ("high_and_low", None),
        ("high_noise_and_low_noise", None),
        ("slow_motion", None),
        ("highres", None),
        ("wan_low_rank_16", None),
        ("lora", None),
    ],
)
def test_names(name: str, expert: str | None) -> None:
    assert expert_in(name) == expert


@pytest.mark.parametrize(
    ("metadata", "expert"),
    [
        ({"ss_sd_model_name": "wan2.2_t2v_low_noise_14B_fp16.safetensors"}, LOW),
        ({"modelspec.title": "Mine, high noise"}, HIGH),
        ({"a": "high_noise", "b": "low_noise"}, None),
        ({"format": "pt", "note": "high"}, None),
        ({"workflow": "high_noise".ljust(MAX_NOTE + 1)}, None),
    ],
)
def test_metadata(metadata: dict[str, str], expert: str | None) -> None:
    assert expert_noted(metadata) == expert


def test_a_folder_s_name_comes_last(tmp_path: Path) -> None:
    path = tmp_path / "high_noise_lora" / "adapter_model.safetensors"
    path.parent.mkdir()
    save_file({"a": torch.ones(1)}, path)
    assert expert_of(path) == HIGH
    save_file({"a": torch.ones(1)}, path, metadata={"title": "low noise"})
    assert expert_of(path) == LOW


def test_a_name_comes_before_metadata(tmp_path: Path) -> None:
    for name, expert in (("low.safetensors", LOW), ("a.safetensors", HIGH)):
        save_file({"a": torch.ones(1)}, tmp_path / name, metadata={"ss_sd_model_name": "high_noise"})
        assert expert_of(tmp_path / name) == expert
