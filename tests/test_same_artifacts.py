"""The comparison of two commits' artifacts finds every difference, and its road names commands that exist."""

import json
import shlex
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from safetensors.torch import save_file
from torch import Tensor

from same_artifacts.check import TRAVEL
from same_artifacts.compare import differences
from same_artifacts.road import commands

TENSORS = {"kept": torch.arange(6.0).reshape(2, 3), "codes": torch.tensor([1, 2, 3], dtype=torch.int8)}
MANIFEST = {
    "tool": "vq-calib 0.1.0",
    "seconds": 1.5,
    "parents": {"stats": "9f"},
    "settings": {"seeds": [1, 2], "alpha": 0.5},
}


def folder(path: Path, tensors: dict[str, Tensor], manifest: object = MANIFEST, metadata: object = MANIFEST) -> Path:
    """An artifact with one file of tensors."""
    path.mkdir()
    save_file(tensors, path / "block_0.safetensors", {"vq": json.dumps(metadata), "format": "pt"})
    (path / "manifest.json").write_text(json.dumps(manifest))
    (path / "run.sh").write_text("#!/bin/sh\n")
    return path


@pytest.fixture
def before(tmp_path: Path) -> Path:
    return folder(tmp_path / "before", TENSORS)


def listed(before: Path, after: Path) -> list[str]:
    return [f"{it.where} {it.what}" for it in differences(before, after)]


def flipped() -> Tensor:
    tensor = TENSORS["kept"].clone()
    tensor.view(torch.int32)[1, 2] ^= 1
    return tensor


@pytest.mark.parametrize(
    ("tensors", "header", "found"),
    [
        (TENSORS, {"tool": "vq-calib 0.2.0", "parents": {"stats": "a0"}}, []),
        (
            {"kept": flipped(), "new": torch.zeros(1)},
            {},
            ["codes is missing", "kept differs in 1 of 6 elements", "new is extra"],
        ),
        (
            {"kept": TENSORS["kept"].reshape(3, 2), "codes": TENSORS["codes"].view(torch.uint8)},
            {},
            [
                "codes was torch.int8 [3] and is torch.uint8 [3]",
                "kept was torch.float32 [2, 3] and is torch.float32 [3, 2]",
            ],
        ),
        (
            TENSORS,
            {"settings": {"seeds": [1, 3], "alpha": 0.5}, "parents": {"weights": "9f"}},
            ["vq.parents.stats is missing", "vq.parents.weights is extra", "vq.settings.seeds.1 was 2 and is 3"],
        ),
    ],
    ids=["what a version notes of itself", "flipped bit, missing and extra", "dtype and shape", "settings"],
)
def test_tensors_and_headers(
    before: Path, tmp_path: Path, tensors: dict[str, Tensor], header: dict[str, object], found: list[str]
) -> None:
    """Every change is made in the header of the tensor file and in the manifest, where `seconds` never count."""
    after = folder(tmp_path / "after", tensors, MANIFEST | header | {"seconds": 2.5}, MANIFEST | header)
    of_manifest = [f"manifest.json:{it.removeprefix('vq.')}" for it in found if it.startswith("vq.")]
    assert listed(before, after) == [*(f"block_0.safetensors:{it}" for it in found), *of_manifest]


def test_negative_zero_is_not_zero_and_the_same_nan_is_the_same(tmp_path: Path) -> None:
    before = folder(tmp_path / "before", {"x": torch.tensor([0.0, float("nan")])})
    after = folder(tmp_path / "after", {"x": torch.tensor([-0.0, float("nan")])})
    assert listed(before, after) == ["block_0.safetensors:x differs in 1 of 2 elements"]


def test_files(before: Path, tmp_path: Path) -> None:
    after = folder(tmp_path / "after", TENSORS)
    (after / "run.sh").write_text("#!/bin/bash\n")
    (after / "manifest.json").rename(after / "more.json")
    assert listed(before, after) == [
        "manifest.json: file is missing",
        "more.json: file is extra",
        "run.sh: differs",
    ]


def test_a_command_that_fails_ends_the_travel(tmp_path: Path, start_code: Callable[[str], Any]) -> None:
    lines = "".join(
        f"vq-wan-tiny prompts --count {count} -o {name}\n" for count, name in ((1, "a"), (0, "b"), (1, "c"))
    )
    begin = f"import io, os, runpy, sys\nos.chdir({str(tmp_path)!r})\nsys.stdin = io.StringIO({lines!r})\n"
    travel = start_code(f"{begin}runpy.run_path({str(TRAVEL)!r}, run_name='__main__')")
    assert travel.ended(120) == 1
    assert "failed: vq-wan-tiny prompts --count 0 -o b" in travel.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_road_takes_commands_that_exist() -> None:
    for line in commands("wan-tiny"):
        program, command, *_ = shlex.split(line)
        app = import_module(f"{program.replace('-', '_')}.cli").app
        assert command in typer.main.get_group(app).commands
