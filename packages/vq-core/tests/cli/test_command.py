"""Fields of a dataclass as a command's options."""

from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.testing import CliRunner, Result

from vq_core.cli.command import takes_options
from vq_core.cli.options import GENERAL, INPUT, AsJson, Output, SamplingOptions, path_argument
from vq_core.errors import VqError
from vq_core.remote.location import Location


@dataclass(frozen=True, kw_only=True)
class Options(SamplingOptions):
    """Of a command that says what it got."""

    parts: Annotated[list[Location], path_argument(help="Parts.")]
    images: Annotated[list[str] | None, typer.Option("--image", rich_help_panel=INPUT)] = None
    mask: Annotated[str, typer.Option("--mask", rich_help_panel=INPUT)] = "none"
    tiling: Annotated[bool | None, typer.Option("--tiling/--no-tiling", rich_help_panel=GENERAL)] = None
    as_json: AsJson = False
    output: Output = None


def run(*arguments: str, without: tuple[str, ...] = ()) -> tuple[Result, list[Options]]:
    """Run a command: its result, and the options that it was given."""
    app = typer.Typer()
    seen: list[Options] = []

    @app.command()
    @takes_options(Options, without=without)
    def command(options: Options) -> None:
        """Keep the options."""
        seen.append(options)

    return CliRunner().invoke(app, arguments), seen


def test_nothing_said_is_the_defaults() -> None:
    assert run("a")[1] == [Options(parts=[Path("a")])]


def test_what_is_said_arrives() -> None:
    _, (options,) = run("a", "b", "--steps", "3", "--image", "a.png", "--image", "b.png", "--no-tiling", "--json")
    assert options == Options(
        parts=[Path("a"), Path("b")], steps=3, images=["a.png", "b.png"], tiling=False, as_json=True
    )


@pytest.mark.parametrize("value", ["inf", "-inf", "nan", "1e999", "-1", "101"])
def test_a_number_out_of_its_range_is_refused_by_the_name_of_its_option(value: str) -> None:
    result, seen = run("a", "--guidance-scale-2", value)
    assert not seen
    assert isinstance(result.exception, VqError)
    sentence = f"`--guidance-scale-2` is {float(value)}: give a number from 0 to 100."
    assert str(result.exception) == sentence


@pytest.mark.parametrize("kind", [int, float, int | None])
def test_a_number_must_have_a_range(kind: Any) -> None:
    options = make_dataclass("Options", [("value", Annotated[kind, typer.Option("--value", rich_help_panel=INPUT)])])
    with pytest.raises(TypeError, match="number without a range"):
        takes_options(options)(lambda options: None)


def test_an_argument_has_no_default() -> None:
    result, seen = run()
    assert result.exit_code == 2
    assert not seen


def test_a_command_can_lack_options() -> None:
    result, seen = run("a", "--mask", "m.png", without=("mask",))
    assert result.exit_code == 2
    assert not seen
    assert run("a", without=("mask",))[1] == [Options(parts=[Path("a")])]


def test_the_help_has_the_panels_in_their_order() -> None:
    printed = run("--help")[0].output
    assert "Keep the options." in printed
    places = [printed.index(f"─ {panel} ─") for panel in ("Arguments", "Input", "Output", "Sampling", "General")]
    assert places == sorted(places)
