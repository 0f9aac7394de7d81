import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vq_eval.cli import main

MakeFolder = Callable[[str, dict[str, np.ndarray]], Path]


@pytest.fixture
def folders(make_folder: MakeFolder, clip: np.ndarray, noisy: np.ndarray) -> list[str]:
    reference = make_folder("a", {"sea.mkv": clip, "cat.mkv": clip})
    candidate = make_folder("b", {"sea.mkv": noisy, "cat.mkv": clip})
    return ["--reference", str(reference), "--candidate", str(candidate)]


def _exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["vq-eval", *arguments])
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def test_compare_prints_a_table(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, "compare", *folders, "-o", str(tmp_path / "report")) == 0
    printed = capsys.readouterr().out
    for part in ("cat", "identical", "PSNR overall", "worst (sea)", "SSIM overall", "lossless .mkv", "compare.md"):
        assert part in printed
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["compare.json", "compare.md"]


def test_compare_prints_json(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _exit_code(monkeypatch, "compare", *folders, "-o", str(tmp_path / "report"), "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["overall"]["psnr"]["worst_video"] == "sea"
    assert [video["identical"] for video in result["videos"]] == [True, False]
    assert result["output"] == str(tmp_path / "report")


def test_a_failed_gate_exits_with_one_and_still_writes_the_report(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gates = ["--min-psnr", "90", "--min-ssim", "0.1"]
    assert _exit_code(monkeypatch, "compare", *folders, "-o", str(tmp_path / "report"), *gates) == 1
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith("PSNR of `sea` is ")
    assert "below --min-psnr 90 (1 of 2 videos fail)" in captured.err
    assert "SSIM of" not in captured.err
    assert (tmp_path / "report" / "compare.json").is_file()


def test_gates_that_are_met_exit_with_zero(folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gates = ["--min-psnr", "20", "--min-ssim", "0.1"]
    assert _exit_code(monkeypatch, "compare", *folders, "-o", str(tmp_path / "report"), *gates) == 0


@pytest.mark.parametrize("missing", ["--reference", "--candidate", "--output"])
def test_a_missing_option_is_named(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = {"--reference": "a", "--candidate": "b", "--output": str(tmp_path / "report")}
    del given[missing]
    assert _exit_code(monkeypatch, "compare", *(part for option in given.items() for part in option)) == 2
    assert missing in capsys.readouterr().err


def test_a_users_mistake_exits_with_two_and_one_sentence(
    folders: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report").mkdir()
    assert _exit_code(monkeypatch, "compare", *folders, "-o", str(tmp_path / "report")) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path / 'report'} exists already: choose another --output or remove it."
    ]


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"]])
def test_help_needs_no_torch(arguments: list[str]) -> None:
    program = (
        "import sys; from vq_eval.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "sys.exit(len({'torch', 'numpy', 'diffusers'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout


def test_compare_help_shows_examples(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert _exit_code(monkeypatch, "compare", "--help") == 0
    assert "vq-eval compare --reference bf16 --candidate int8 -o report --min-psnr 30" in capsys.readouterr().out
