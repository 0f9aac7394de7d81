"""The shared options are parsed, and without them nothing is said."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from vq_core.cli import options
from vq_core.cli.app import new_app, run
from vq_core.cli.command import takes_options
from vq_core.remote.location import Location

LINE = (
    "vq-test --model m -o out --resume --device cpu --seed 7 --recipe r.yaml --json -v --weights w --qparams q "
    "--prompts p --steps 4 --height 96 --width 64 --num-frames 9 --guidance-scale 4.5 --guidance-scale-2 3 --fps 24"
)
SAID = {
    "model": "m",
    "output": Path("out"),
    "resume": True,
    "device": "cpu",
    "seed": 7,
    "recipe": Path("r.yaml"),
    "as_json": True,
    "verbose": True,
    "weights": Path("w"),
    "qparams": Path("q"),
    "prompts": Path("p"),
    "steps": 4,
    "height": 96,
    "width": 64,
    "num_frames": 9,
    "guidance_scale": 4.5,
    "guidance_scale_2": 3.0,
    "fps": 24,
}


@dataclass(frozen=True, kw_only=True)
class Shared(options.SamplingOptions):
    """All of them."""

    model: options.Model = None
    output: options.Output = None
    resume: options.Resume = False
    device: options.Device = None
    recipe: options.Recipe = None
    as_json: options.AsJson = False
    verbose: options.Verbose = False
    weights: options.Weights = None
    qparams: options.QParams = None
    prompts: options.Prompts = None
    fps: options.Fps = None


@pytest.mark.parametrize("line", [LINE, "vq-test"], ids=["all", "none"])
def test_shared_options(monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    seen: list[Shared] = []
    app = typer.Typer()
    app.command()(takes_options(Shared)(seen.append))
    monkeypatch.setattr(sys, "argv", line.split())
    with pytest.raises(SystemExit):
        run(app)
    nothing = {name: False if value is True else None for name, value in SAID.items()}
    assert [vars(it) for it in seen] == [SAID if line == LINE else nothing]


@pytest.mark.parametrize("text", ["s3://bucket/run/out", "hf://datasets/me/out", "/data/out", "out"])
def test_a_path_option_and_argument_keep_what_was_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str
) -> None:
    app = typer.Typer()

    @app.command()
    def go(
        parts: Annotated[list[Location], options.path_argument(help="Parts.")], output: options.Output = None
    ) -> None:
        print(output, *parts)

    monkeypatch.setattr(sys, "argv", ["vq-test", text, text, "-o", text])
    with pytest.raises(SystemExit):
        run(app)
    assert capsys.readouterr().out == f"{text} {text} {text}\n"


def test_a_model_may_have_a_default_that_the_help_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    app = new_app("A test.")

    @app.command("with")
    def go_with(model: options.ModelOrDefault = None) -> None:
        print("with", model)

    @app.command("without")
    def go_without(model: options.Model = None) -> None:
        print("without", model)

    printed = {}
    for line in ("with", "with --model m", "with --help", "without --help"):
        monkeypatch.setattr(sys, "argv", ["vq-test", *line.split()])
        monkeypatch.setenv("COLUMNS", "300")
        with pytest.raises(SystemExit):
            run(app)
        printed[line] = capsys.readouterr().out
    assert (printed["with"], printed["with --model m"]) == ("with None\n", "with m\n")
    assert "[default: that of the artifacts; without any the toy wan-tiny]" in printed["with --help"]
    assert "default: wan-tiny" not in printed["without --help"]
    assert "wan-tiny-hard" in printed["without --help"]
