"""The command: help, exit codes, and what it prints."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.media.video import read_video
from vq_infer.cli import commands

VqInfer = Callable[..., int]
TinyModel = Callable[[str], Path]
Convert = Callable[..., Path]


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


def test_t2v(
    vq_infer: VqInfer,
    tiny_model: TinyModel,
    convert: Convert,
    small: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, output = tiny_model("t2v"), tmp_path / "new" / "out.mp4"
    arguments = ("--model", model, "--checkpoint", convert(model), "--prompt", "a tram", "-o", output, *small)
    assert vq_infer("t2v", *arguments) == 0
    assert read_video(output).shape == (5, 64, 64, 3)
    assert "kernels" in capsys.readouterr().out


def test_i2v_as_json(
    vq_infer: VqInfer,
    tiny_model: TinyModel,
    convert: Convert,
    image: Path,
    small: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    model, output = tiny_model("i2v"), tmp_path / "out.mp4"
    arguments = ("--model", model, "--checkpoint", convert(model), "--image", image, "--prompt", "a tram", "-o", output)
    assert vq_infer("i2v", *arguments, *small, "--json") == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [5, 48, 64]
    assert read_video(output).shape == (5, 48, 64, 3)


def test_vace(
    vq_infer: VqInfer, tiny_model: TinyModel, convert: Convert, image: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    model, output = tiny_model("vace"), tmp_path / "out.mp4"
    arguments = ("--model", model, "--checkpoint", convert(model), "--prompt", "a tram", "-o", output, *small)
    assert vq_infer("vace", *arguments, "--reference", image, "--reference", image) == 0
    assert read_video(output).shape == (5, 64, 64, 3)


def test_first_and_last_frame(
    vq_infer: VqInfer, tiny_model: TinyModel, convert: Convert, image: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    model, output = tiny_model("flf2v"), tmp_path / "out.mp4"
    arguments = ("--model", model, "--checkpoint", convert(model), "--prompt", "a tram", "-o", output, *small)
    assert vq_infer("i2v", *arguments, "--image", image, "--last-image", image) == 0
    assert read_video(output).shape == (5, 48, 64, 3)


def test_user_error_is_one_sentence_and_exit_code_2(
    vq_infer: VqInfer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("--model", tmp_path, "--checkpoint", tmp_path / "none", "--prompt", "p", "-o", tmp_path / "o.mp4")
    assert vq_infer("t2v", *arguments) == 2
    error = capsys.readouterr().err.strip()
    assert "is not a lightx2v-checkpoint artifact" in error
    assert "\n" not in error
