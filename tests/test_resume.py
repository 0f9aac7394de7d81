"""Resuming trusts nothing that lies there: every command that writes an artifact, on what a damaged disk gives back."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_core.store.manifest import FILE_NAME
from vq_core.store.resumable_folder import partial_folder
from vq_core.store.writer import ArtifactWriter

Run = Callable[..., dict[str, Any]]
Commands = dict[str, list[object]]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.fixture
def commands(
    tiny_model: Any, one_prompt: Path, sampling: list[str], smoothed: Path, quantized: Callable[[str], Path]
) -> Commands:
    """Every command that resumes, on tiny inputs, but for the output."""
    model, qparams = tiny_model("i2v"), quantized("int8") / "qparams"
    candidate = ["--model", model, "--weights", smoothed, "--qparams", qparams, "--prompts", one_prompt, *sampling]
    return {
        "vq-calib collect": ["--model", model, "--prompts", one_prompt, *sampling],
        "vq-algos smooth": ["--model", model, "--stats", smoothed.parent / "stats"],
        "vq-algos quantize": ["--weights", smoothed, "--scheme", "int8"],
        "vq-export lightx2v": ["--weights", smoothed, "--qparams", qparams, "--no-verify"],
        "vq-export comfyui": ["--model", model, "--scheme", "int8"],
        "vq-export diffusers": ["--model", model],
        "vq-infer batch": [
            *("--model", model, "--checkpoint", quantized("int8") / "ckpt", "--prompts", one_prompt),
            *sampling,
        ],
        "vq-eval fake-quant": [*candidate, "--no-cache"],
        "vq-eval trajectory": candidate,
        "vq-eval layers": candidate,
    }


COMMANDS = (
    "vq-calib collect",
    "vq-algos smooth",
    "vq-algos quantize",
    "vq-export lightx2v",
    "vq-export comfyui",
    "vq-export diffusers",
    "vq-infer batch",
    "vq-eval fake-quant",
    "vq-eval trajectory",
    "vq-eval layers",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_damaged_file_is_refused_and_a_whole_one_is_kept(
    command: str, commands: Commands, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert commands.keys() == set(COMMANDS)
    line = [command, *commands[command], "-o", tmp_path / "out"]

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(ArtifactWriter, "commit", killed)
        run(*line)
    partial = partial_folder(tmp_path / "out")
    found = [path for path in sorted(partial.rglob("[!.]*")) if path.is_file()]
    for path in (found[0], found[-1]):
        whole = path.read_bytes()
        path.write_bytes(bytes([whole[0] ^ 1]) + whole[1:])
        with pytest.raises(VqError, match=f"{path.name} is not the file that was written .*: remove it and run"):
            run(*line, "--resume")
        path.unlink()
        path.mkdir()
        with pytest.raises(VqError, match=f"{path.name} is not the file that was written, but a folder"):
            run(*line, "--resume")
        path.rmdir()
        path.write_bytes(whole)
    run(*line, "--resume")
    assert (tmp_path / "out" / FILE_NAME).is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert not list((tmp_path / "out").glob(".*"))
