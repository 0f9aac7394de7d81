"""What lies in the folder is what LightX2V reads; most breaks are in test_verify.py and in the catalogue in tests/."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_export.verify.checks.coverage import coverage_problems

Rewrite = Callable[..., Path]


def problems(path: Path) -> list[str]:
    return list(coverage_problems(open_checkpoint(path)))


@pytest.mark.parametrize("value", [True, False])
def test_what_is_read_follows_the_run_config(checkpoints: dict[str, Path], rewrite: Rewrite, value: bool) -> None:
    made = "int8-i2v-2.2" if value else "int8-i2v"
    said, file = {"use_image_encoder": value}, "run_configs/int8-sgl.json"
    path = rewrite(checkpoints[made], lambda content: content.edit_json(file, lambda config: config.update(said)))
    found = problems(path)
    assert len(found) == len(set(found))
    if value:
        assert f"`blocks.0.cross_attn.k_img.weight` is missing in {path / 'high_noise_model'}." in found
    else:
        assert "`img_emb.proj.0.bias` in non_block.safetensors is nothing that LightX2V reads." in found
