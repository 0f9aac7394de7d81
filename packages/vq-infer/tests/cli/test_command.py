"""Fields of `VideoOptions` as a command's options."""

from typing import Any

import typer
from typer.testing import CliRunner

from vq_infer.cli.command import takes_options
from vq_infer.options import VideoOptions


def run(*arguments: str, without: tuple[str, ...] = ()) -> tuple[int, list[Any]]:
    app, seen = typer.Typer(), []

    @app.command()
    @takes_options(without=without)
    def command(options: VideoOptions, as_json: bool, verbose: bool) -> None:
        """Says so."""
        seen.extend([options, as_json, verbose])

    return CliRunner().invoke(app, arguments).exit_code, seen


def test_nothing_said_is_the_defaults() -> None:
    assert run() == (0, [VideoOptions(), False, False])


def test_what_is_said_arrives() -> None:
    code, (options, as_json, verbose) = run(
        "--steps", "3", "--reference", "a.png", "--reference", "b.png", "--no-vae-tiling", "--offload", "block", "-v"
    )  # fmt: skip
    assert (code, as_json, verbose) == (0, False, True)
    assert (options.steps, options.vae_tiling, options.offload) == (3, False, "block")
    assert [str(path) for path in options.reference_images] == ["a.png", "b.png"]


def test_a_command_can_lack_options() -> None:
    code, seen = run("--mask", "m.png", without=("mask",))
    assert code != 0
    assert not seen
