"""The campaign: every command is attacked, its oracle sees what it has to, and a short slice of it finds nothing."""

import json
import shutil
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from typer.main import get_command

from campaign.classify import listing
from campaign.mutations.choice import OF_ALL, OF_KIND
from campaign.mutations.kinds import Kind, kind_of
from campaign.mutations.target import Target
from campaign.readers import complaint
from campaign.roads import TOO_SLOW, WITHOUT_FILES, roads
from vq_core.testing.tiny_models import write_samples

SLICE_COMMANDS = ["vq-algos show", "vq-export diffusers", "vq-export lightx2v", "vq-export verify"]
SLICE_INPUTS = ["stats", "smoothed", "qparams", "lightx2v", "lightx2v-fp8"]
TIMED = {8, 13}
"""How these end depends on the machine's speed."""
SLICE = [number for number in range(24) if number not in TIMED]
"""Cases of seed 0 on these commands and inputs."""

PRETEND = """
import os, sys, time
from pathlib import Path

def main():
    match sys.argv[2]:
        case "right":
            Path("out").write_text("right")
        case "wrong":
            Path("out").write_text("wrong")
        case "hang":
            time.sleep(60)
        case "litter":
            Path("out").write_text("right")
            Path("out.tmp").write_text("")
        case "loses":
            Path("input").unlink()
            Path("out").write_text("right")
        case "traceback":
            {}["key"]
        case "two lines":
            sys.exit("one\\ntwo")
        case "control":
            sys.exit("red \\x1b[31m")
        case "silent":
            sys.exit(2)
        case "killed":
            os.kill(os.getpid(), 15)
        case "large":
            held = b"x" * (5 << 28)
            Path("out").write_text("right")
        case "process goes on":
            os.system("sleep 5 &")
            Path("out").write_text("right")
        case "refused":
            print("No such thing: give another.", file=sys.stderr)
            sys.exit(2)
"""
JUDGE = """
import hashlib, json, sys
from pathlib import Path
sys.path[:0] = paths
from campaign.baseline import Baseline
from campaign.child import Call, run
from campaign.classify import Scene, listing
from campaign.roads import Road
from campaign.stage import judge

place, verdicts = Path(place), {}
for word in words:
    folder = place / word / "here"
    folder.mkdir(parents=True)
    (folder / "input").write_text("an input")
    road = Road(f"pretend x '{word}' -o out")
    right = {"out:": hashlib.sha256(b"right").hexdigest()}
    baseline = Baseline(right, frozenset(), frozenset(), frozenset({"out"}), 0.1, 1 << 30, 0)
    scene = Scene(road, baseline, folder, listing(folder))
    verdicts[word] = judge(scene, run(Call(road.line, folder), 1.0 if word == "hang" else 30.0), None).verdict.value
print(json.dumps(verdicts))
"""
VERDICTS = {
    "right": "harmless",
    "refused": "refused",
    "wrong": "silently wrong",
    "hang": "hang",
    "litter": "leftovers",
    "process goes on": "leftovers",
    "loses": "lost",
    "traceback": "traceback",
    "two lines": "unclean sentence",
    "control": "unclean sentence",
    "silent": "unclean sentence",
    "killed": "signal",
    "large": "over 1 GiB",
}

PLAY = """
import json, sys
from pathlib import Path
sys.path[:0] = paths
from campaign.baseline import baseline_of
from campaign.cases import Ground, play
from campaign.pantry import attacked, build, threads

place = Path(place)
build(place / "inputs", {"t2v": Path(model)}, inputs)
roads = [road for road in attacked(place / "inputs") if road.command in commands]
baselines = {road: baseline_of(road, place / "inputs", place / f"baseline-{n}", 1) for n, road in enumerate(roads)}
(place / "cases").mkdir()
ground = Ground(place / "inputs", baselines, place / "cases", 0, None, 30.0)
results = [vars(play(ground, number)[0]) for number in numbers]
print(json.dumps({"threads": threads(), "results": results}))
"""


@pytest.fixture
def started(start_code: Any, tmp_path: Path) -> Callable[..., Any]:
    """`started(code, seconds, name=value)` is the JSON that the code prints, in a process that has no threads."""

    def start(code: str, seconds: float, **names: Any) -> Any:
        paths = [str(Path(__file__).parents[1] / "tools"), str(tmp_path)]
        given = {"paths": paths, "place": str(tmp_path / "place"), **names}
        run = start_code("".join(f"{name} = {value!r}\n" for name, value in given.items()) + code)
        assert run.ended(seconds) == 0, run.stderr
        return json.loads(run.stdout.splitlines()[-1])

    return start


def test_no_command_is_forgotten() -> None:
    commands = set()
    for entry in entry_points(group="console_scripts"):
        if entry.name.startswith("vq-"):
            group: Any = get_command(import_module(f"{entry.name.replace('-', '_')}.cli").app)
            commands |= {f"{entry.name} {name}" for name in group.commands}
    assert {road.command for road in roads()} | WITHOUT_FILES | TOO_SLOW == commands


def test_the_oracle_sees_every_fault(started: Any, tmp_path: Path) -> None:
    (tmp_path / "pretend").mkdir()
    (tmp_path / "pretend" / "cli.py").write_text(PRETEND)
    assert started(JUDGE, 60, words=list(VERDICTS)) == VERDICTS


def test_a_slice_finds_nothing(started: Any, tiny_model: Any) -> None:
    model = str(tiny_model("t2v"))
    played = started(PLAY, 300, model=model, inputs=SLICE_INPUTS, commands=SLICE_COMMANDS, numbers=SLICE)
    assert played["threads"] == 1
    assert [it for it in played["results"] if it["verdict"] not in ("refused", "harmless", "taken")] == []


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Path]:
    """A file of every kind, each with a sibling."""
    folder = write_samples(tmp_path_factory.mktemp("samples"), 2, with_images=True)
    (folder / "settings.yaml").write_text("a: 1\nb: [x, y]\n")
    (folder / "notes.txt").write_text("some words\n")
    (folder / "bytes.bin").write_bytes(bytes(range(128, 256)))
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(2, 3, dtype=torch.bfloat16)}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    torch.save(tensors, folder / "model.pth")
    return {
        Kind.JSON: folder / "samples.json",
        Kind.YAML: folder / "settings.yaml",
        Kind.SAFETENSORS: folder / "model.safetensors",
        Kind.PICTURE: folder / "image_0.png",
        Kind.VIDEO: folder / "video_0.mkv",
        Kind.ZIP: folder / "model.pth",
        Kind.TEXT: folder / "notes.txt",
        Kind.UNKNOWN: folder / "bytes.bin",
    }


@pytest.mark.parametrize("kind", Kind)
def test_a_strict_reader_takes_what_is_sound_and_not_what_is_damaged(
    samples: dict[Kind, Path], tmp_path: Path, kind: Kind
) -> None:
    assert kind_of(samples[kind]) is kind
    assert complaint(samples[kind], kind) is None
    if kind is not Kind.UNKNOWN:
        (tmp_path / "cut").write_bytes(samples[kind].read_bytes()[: 200 if kind is Kind.VIDEO else 20] + b"\xff")
        assert complaint(tmp_path / "cut", kind) is not None
    assert complaint(tmp_path / "nothing", kind) == "no file"


@pytest.mark.parametrize("kind", Kind)
def test_every_mutation_damages_a_file_or_says_that_it_cannot(
    samples: dict[Kind, Path], tmp_path: Path, kind: Kind
) -> None:
    tables = [*OF_ALL.values(), OF_KIND.get(kind, {})]
    for number, (name, mutation) in enumerate(item for table in tables for item in table.items()):
        folder = tmp_path / str(number) / "input"
        shutil.copytree(samples[kind].parent, folder)
        (folder.parent / ".home").mkdir()
        before = listing(folder.parent)
        said = mutation(Target(folder / samples[kind].name, folder, Random(number)))
        assert said is None or listing(folder.parent) != before, name
        folder.chmod(0o700)
