import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.testing.tiny_models import Variant, write_samples


def test_the_command_prints_json(
    vq_infer: Callable[..., int],
    tiny_model: Callable[[Variant], Path],
    convert: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = tiny_model("t2v")
    prompts = write_samples(tmp_path / "prompts", 1, with_images=False)
    inputs = ("--model", model, "--checkpoint", convert(model), "--prompts", prompts, "-o", tmp_path / "videos")
    small = ("--height", 64, "--width", 64, "--num-frames", 5, "--steps", 1, "--device", "cpu")
    assert vq_infer("batch", *inputs, *small, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["prompts"], result["folder"]) == (1, str(tmp_path / "videos" / "native"))
    assert result["summary"]["seconds"] > 0


def test_what_is_missing_is_named(
    tiny_model: Callable[[str], Path], vq_infer: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model("t2v")
    assert vq_infer("batch", "--checkpoint", tmp_path, "--model", model, "-o", tmp_path / "videos") == 2
    assert capsys.readouterr().err.startswith("`--prompts` is missing")
