import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vq_export.next_steps import verify_and_infer

Paths = dict[str, Path]

IMAGE = {"in_channels": 36, "image_dim": 48, "added_kv_proj_dim": 64}


def test_they_are_commands(models: Paths, smoothed_i2v: dict[str, Any], convert: Any) -> None:
    output = Path("my checkpoint")
    verify, infer = verify_and_infer(smoothed_i2v["int8"].opened(), output).splitlines()
    assert shlex.split(verify) == ["vq-export", "verify", "my checkpoint", "--model", str(models["i2v"])]
    command = ["vq-infer", "i2v", "--model", str(models["i2v"]), "--checkpoint", "my checkpoint", "--image", "IMAGE"]
    assert shlex.split(infer)[1:] == [*command, "--prompt", "TEXT", "-o", "video.mp4"]

    infer = verify_and_infer(convert(models["t2v"]), output)  # it was held against the model when it was written
    assert shlex.split(infer)[:2] == ["vq-infer", "t2v"]
    assert "--image" not in infer


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ({"in_channels": 48, "out_channels": 48}, "t2v --model M --checkpoint out --prompt"),
        (
            IMAGE | {"pos_embed_seq_len": 514},
            "i2v --model M --checkpoint out --image IMAGE --last-image IMAGE --prompt",
        ),
        ({"vace_layers": [0], "vace_in_channels": 96}, "vace --model M --checkpoint out --prompt"),
    ],
)
def test_the_command_is_the_kinds(models: Paths, convert: Any, edit: dict[str, Any], expected: str) -> None:
    model = convert(models["t2v"])
    transformer = SimpleNamespace(config=model.components["transformer"].config | edit, lora=[])
    model = SimpleNamespace(family=model.family, model="M", parents={}, components={"transformer": transformer})
    assert verify_and_infer(model, Path("out")).startswith(f"vq-infer {expected}")


def test_they_name_no_model_that_would_be_refused(by_llmc: Any, convert: Any, tmp_path: Path) -> None:
    for model in (by_llmc("t2v", "int8"), by_llmc("t2v", None)):
        said = verify_and_infer(convert(model), tmp_path / "ckpt")
        assert said == f"vq-infer t2v --model PIPELINE --checkpoint {tmp_path / 'ckpt'} --prompt TEXT -o video.mp4"
