"""The command: its options, its table and its JSON."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from vq_core.media.video import write_video
from vq_wan_tiny.prompts import draw_clips

Run = Callable[..., int]


@pytest.fixture
def run(run_command: Run) -> Run:
    """Run the command in this process; its exit code."""
    return partial(run_command, "vq-wan-tiny")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    for index, (_, frames) in enumerate(draw_clips(2, 0, held_out=True)):
        write_video(tmp_path / "videos" / f"{index:03d}.mkv", frames, 8)
    return tmp_path / "videos"


def test_prompts_are_held_out_unless_asked_otherwise(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = {}
    for name, options in (("a", []), ("b", ["--held-out"]), ("c", ["--trained"]), ("d", ["--seed", "1"])):
        assert run("prompts", "-o", tmp_path / name, "--count", 2, *options, "--json") == 0
        results[name] = json.loads(capsys.readouterr().out)
    assert results["a"]["output"] == str(tmp_path / "a")
    assert results["a"]["prompts"] == results["b"]["prompts"] == [text for text, _ in draw_clips(2, 0, held_out=True)]
    assert results["c"]["prompts"] == [text for text, _ in draw_clips(2, 0, held_out=False)]
    assert results["d"]["prompts"] == [text for text, _ in draw_clips(2, 1, held_out=True)]


def test_there_are_32_prompts_unless_asked_otherwise(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("prompts", "-o", tmp_path / "prompts") == 0
    printed = capsys.readouterr().out
    assert "32, held out" in printed
    assert f"--prompts {tmp_path / 'prompts'} -o videos" in printed
    assert len(json.loads((tmp_path / "prompts" / "samples.json").read_text())) == 32


def test_grade_prints_a_table_and_json(
    run: Run, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts"
    assert run("prompts", "-o", prompts, "--count", 2) == 0
    capsys.readouterr()
    assert run("grade", videos, "--prompts", prompts) == 0
    printed = capsys.readouterr().out
    for row in ("direction", "speed", "turning", "sizing", "first frame", "background"):
        assert row in printed
    assert "100.0 % (100.0 to 100.0)" in printed
    assert run("grade", videos, "--prompts", prompts, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["shares"]["direction"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert [video["video"] for video in result["videos"]] == ["000.mkv", "001.mkv"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["prompts"], "`--output` is missing"),
        (["grade", "HERE"], "`--prompts` is missing"),
        (["prompts", "-o", "HERE"], "HERE exists already: choose another --output or remove it."),
    ],
)
def test_a_mistake_exits_with_two_and_one_sentence(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str
) -> None:
    assert run(*(word.replace("HERE", str(tmp_path)) for word in arguments)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(sentence.replace("HERE", str(tmp_path)))
