"""Outputs in inputs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from vq_core.cli.apart import require_apart
from vq_core.cli.options import INPUT, Model, Output, Weights, path_argument, path_option
from vq_core.errors import VqError
from vq_core.remote.location import Location, Uri


@dataclass(frozen=True, kw_only=True)
class Options:
    """Of a command with every way to name an input."""

    parts: Annotated[list[Location], path_argument(help="Parts.")]
    model: Model = None
    weights: Weights = None
    candidates: Annotated[list[str] | None, typer.Option("--candidate", rich_help_panel=INPUT)] = None
    artifacts: Annotated[list[Location] | None, path_option("--artifacts", help="Where to look.")] = None
    output: Output = None


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "manifest.json").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("in")
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [
        Options(parts=[Path("a"), Path("in")], output=Path("in/out")),
        Options(parts=[], model="in", output=Path("link/deep/out")),
        Options(parts=[], weights=Path("link"), output=Path("in/../in/out")),
        Options(parts=[], candidates=["x=y", "new=in"], output=Path("in/out")),
    ],
)
def test_refuses_an_output_in_an_input(options: Options) -> None:
    with pytest.raises(VqError, match=r"out lies inside the input (in|link): choose another place for the output"):
        require_apart(options)


def test_refuses_an_output_in_any_artifact(folder: Path) -> None:
    (folder / "stats" / "transformer").mkdir(parents=True)
    (folder / "stats" / "manifest.json").write_text('{"name": "a web page"}')
    options = Options(parts=[], output=Path("stats/transformer/out"))
    require_apart(options)
    (folder / "stats" / "manifest.json").write_text('{"kind": "activation-stats"}')
    with pytest.raises(VqError, match=r"stats/transformer/out lies inside the artifact /\S+/stats: choose"):
        require_apart(options)


@pytest.mark.parametrize(
    "options",
    [
        Options(parts=[Path("in")], output=Path("in.out")),
        Options(parts=[Path("in")], output=Path("other/in")),
        Options(parts=[Path("in")]),
        Options(parts=[Path("empty")], output=Path("empty/out")),
        Options(parts=[Path("in")], output=Uri("s3", "in/out")),
        Options(parts=[], artifacts=[Path("in")], output=Path("in/report")),
        Options(parts=[], model="org/model", output=Path("org/model/out")),
    ],
)
def test_any_other_place_will_do(options: Options) -> None:
    require_apart(options)
