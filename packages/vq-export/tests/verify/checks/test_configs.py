"""What LightX2V is told has to fit what lies in the folder."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_export.verify.checks.configs import config_problems

RUN_CONFIG = "run_configs/int8-vllm.json"
OLD_CONFIG = "run_configs/old/int8-vllm.json"
PLACE = "/path/to/this/checkpoint"

Rewrite = Callable[..., Path]


def problems(path: Path) -> list[str]:
    return list(config_problems(open_checkpoint(path)))


@pytest.mark.parametrize(
    ("made", "file", "change", "sentence"),
    [
        ("int8-i2v", RUN_CONFIG, {"dit_quant_scheme": "fp8-vllm"}, "says dit_quant_scheme='fp8-vllm' and the codes ar"),
        ("int8-i2v", RUN_CONFIG, {"dit_quant_scheme": "nvfp4"}, "says dit_quant_scheme='nvfp4' and the codes are int8"),
        ("int8-i2v", RUN_CONFIG, {"dit_quantized": False}, "says dit_quantized=False"),
        ("int8-i2v", RUN_CONFIG, {"dit_quantized_ckpt": "elsewhere"}, "says dit_quantized_ckpt='elsewhere'"),
        ("int8-i2v", OLD_CONFIG, {"mm_config": {"mm_type": "Default"}}, "names the kernels 'Default'"),
        ("int8-i2v", OLD_CONFIG, {"mm_config": None}, "names the kernels None"),
        ("int8-i2v-2.2", RUN_CONFIG, {"boundary": None}, "says boundary=None"),
        ("int8-i2v-2.2", RUN_CONFIG, {"sample_guide_scale": 3.5}, "says sample_guide_scale=3.5"),
        ("int8-i2v-2.2", RUN_CONFIG, {"dit_quantized_ckpt": PLACE}, f"says dit_quantized_ckpt='{PLACE}'"),
        ("int8-i2v-2.2", RUN_CONFIG, {"high_noise_quantized_ckpt": PLACE}, f"high_noise_quantized_ckpt='{PLACE}'"),
    ],
)
def test_one_wrong_key(
    checkpoints: dict[str, Path], rewrite: Rewrite, made: str, file: str, change: dict[str, Any], sentence: str
) -> None:
    path = rewrite(checkpoints[made], lambda content: content.edit_json(file, lambda config: config.update(change)))
    (problem,) = problems(path)
    assert problem.startswith(f"{path / file} ")
    assert sentence in problem


def test_no_run_config_at_all(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    def edit(content: Any) -> None:
        for file in [file for file in content.texts if file.startswith("run_configs/")]:
            del content.texts[file]

    (problem,) = problems(rewrite(checkpoints["int8-i2v"], edit))
    assert "holds no run config" in problem
