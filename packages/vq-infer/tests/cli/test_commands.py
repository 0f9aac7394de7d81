"""The command: help, exit codes, and what it prints."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.media.video import read_video
from vq_core.testing.tiny_models import write_samples
from vq_infer.cli import commands

VqInfer = Callable[..., int]
Folder = Callable[..., Path]
SMALL = ("--height", 64, "--width", 64, "--num-frames", 5, "--steps", 2, "--device", "cpu")


@pytest.mark.parametrize("command", [[], ["i2v"], ["t2v"], ["vace"]])
def test_help_needs_no_torch(command: list[str]) -> None:
    code = (
        "import sys, vq_infer.cli\n"
        f"sys.argv = ['vq-infer', *{command!r}, '--help']\n"
        "try:\n    vq_infer.cli.main()\nexcept SystemExit as stop:\n    assert not stop.code\n"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not command or "For example" in done.stdout


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}),
        ({"PYTORCH_ALLOC_CONF": "a:1"}, {"PYTORCH_ALLOC_CONF": "a:1"}),
        ({"PYTORCH_CUDA_ALLOC_CONF": "b:2"}, {"PYTORCH_CUDA_ALLOC_CONF": "b:2"}),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="only there can segments grow")
def test_segments_of_device_memory_grow_unless_the_user_says_otherwise(
    said: dict[str, str], expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"):
        monkeypatch.setenv(name, "so that it is restored")
        monkeypatch.delenv(name)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(commands, "run_app", lambda app: None)
    commands.main()
    assert {name: value for name, value in os.environ.items() if name.endswith("ALLOC_CONF")} == expected


@pytest.mark.parametrize(
    ("command", "variant", "files", "shape"),
    [
        ("t2v", "t2v", [], (5, 64, 64)),
        ("i2v", "i2v", ["--image"], (5, 48, 64)),
        ("i2v", "flf2v", ["--image", "--last-image"], (5, 48, 64)),
        ("vace", "vace", ["--reference", "--reference"], (5, 64, 64)),
    ],
)
def test_makes_a_video(
    vq_infer: VqInfer,
    tiny_model: Folder,
    converted: Folder,
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: str,
    variant: str,
    files: list[str],
    shape: tuple[int, ...],
) -> None:
    output = tmp_path / "new" / "out.mp4"
    inputs = ("--model", tiny_model(variant), "--checkpoint", converted(variant), "--prompt", "a tram", "-o", output)
    assert vq_infer(command, *inputs, *SMALL, *(part for file in files for part in (file, image)), "--json") == 0
    assert json.loads(capsys.readouterr().out)["shape"] == list(shape)
    assert read_video(output).shape == (*shape, 3)


def test_batch(
    vq_infer: VqInfer, tiny_model: Folder, converted: Folder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write_samples(tmp_path / "prompts", 1, with_images=False)
    inputs = ("--model", tiny_model("t2v"), "--checkpoint", converted("t2v"), "-o", tmp_path / "videos")
    assert vq_infer("batch", *inputs) == 2
    assert capsys.readouterr().err.startswith("`--prompts` is missing")
    assert vq_infer("batch", *inputs, *SMALL, "--prompts", prompts, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["prompts"], result["folder"]) == (1, str(tmp_path / "videos" / "native"))
    assert result["summary"]["seconds"] > 0


def test_user_error_is_one_sentence_and_exit_code_2(
    vq_infer: VqInfer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--model", tmp_path, "--checkpoint", tmp_path / "none", "--prompt", "p", "-o", tmp_path / "o.mp4")
    assert vq_infer("t2v", *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert "is not a lightx2v-checkpoint artifact" in error
    assert "\n" not in error
