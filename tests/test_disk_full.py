"""A disk that is full in the middle of a stage: one sentence, exit code 2, nothing that looks finished, --resume."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem

from vq_core.store.manifest import FILE_NAME

Typed = Callable[..., tuple[int, str]]


@pytest.fixture
def typed(run_command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> Typed:
    """`typed("vq-calib collect", …)` is exit code and last line on stderr of the command as a user types it."""

    def type_command(command: str, *arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = run_command(*command.split(), *arguments)
        return code, capsys.readouterr().err.strip().rpartition("\n")[2]

    return type_command


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, after: int) -> Iterator[None]:
    """Every flush of a file or folder to the disk fails for want of space, but for the first `after`."""
    flush, flushed = os.fsync, 0

    def fsync(descriptor: int) -> None:
        nonlocal flushed
        flushed += 1
        if flushed > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        yield


@pytest.fixture(scope="module")
def road(
    run: Any, tiny_model: Any, prompts: Path, sampling: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[object]]:
    """The arguments of each command, with all that it reads."""
    folder = tmp_path_factory.mktemp("road")
    model = ["--model", tiny_model("t2v")]
    collect = [*model, "--prompts", prompts, *sampling, "--tokens", 0]
    run("vq-algos smooth", *model, "--method", "none", "-o", folder / "smoothed")
    run("vq-algos quantize", "--weights", folder / "smoothed", "--scheme", "int8", "-o", folder / "qparams")
    artifacts = ["--weights", folder / "smoothed", "--qparams", folder / "qparams"]
    return {
        "vq-calib collect": collect,
        "vq-algos smooth": [*model, "--method", "none"],
        "vq-algos quantize": ["--weights", folder / "smoothed", "--scheme", "int8"],
        "vq-export lightx2v": artifacts,
        "vq-eval fake-quant": [*model, *artifacts, "--prompts", prompts, *sampling],
    }


@pytest.mark.parametrize(
    ("command", "after"),
    [
        ("vq-calib collect", 5),
        ("vq-algos smooth", 5),
        ("vq-algos quantize", 5),
        ("vq-export lightx2v", 5),
        ("vq-export lightx2v", 0),
        ("vq-eval fake-quant", 2),
    ],
)
def test_an_artifact(
    typed: Typed, road: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, after: int
) -> None:
    asked = [command, *road[command], "-o", tmp_path / "out"]
    with full_disk(monkeypatch, after):
        code, said = typed(*asked)
    assert (code, said) == (2, said)
    assert said.startswith("No space is left for ")
    assert "with --resume" in said
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.partial" / FILE_NAME).exists()
    assert typed(*asked, "--resume")[0] == 0
    assert (tmp_path / "out" / FILE_NAME).is_file()


def test_an_export_to_a_bucket(typed: Typed, road: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQ_CACHE", str(tmp_path / "cache"))
    asked = ["vq-export lightx2v", *road["vq-export lightx2v"], "-o", "memory://disk-full/out"]
    with full_disk(monkeypatch, after=5):
        code, said = typed(*asked)
    assert code == 2
    assert said.startswith("No space is left for ")
    assert not MemoryFileSystem().exists("/disk-full/out")
    assert typed(*asked, "--resume")[0] == 0
    assert MemoryFileSystem().exists(f"/disk-full/out/{FILE_NAME}")
