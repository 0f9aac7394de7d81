"""What a user types stays what it is: a path or a URI, joined, named and printed."""

from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.remote.location import Location, NamedPath, Uri, join, parse_location, parse_named


@pytest.mark.parametrize("text", ["stats", "./stats", "/data/stats", "a:b", "C:/x", "wan=1"])
def test_a_path_is_a_path(text: str) -> None:
    assert parse_location(text) == Path(text)


@pytest.mark.parametrize("text", ["s3://bucket/run/stats", "hf://datasets/me/x", "memory://a", "GS://bucket/A"])
def test_a_uri_keeps_its_slashes_and_its_case(text: str) -> None:
    location = parse_location(text)
    assert isinstance(location, Uri)
    assert str(location) == text.replace("GS", "gs")
    assert parse_location(f"{text}/") == location


def test_a_file_uri_is_a_path() -> None:
    assert parse_location("file:///data/stats/") == Path("/data/stats")


@pytest.mark.parametrize("text", ["s3://", "s3:///", "s3://bucket/../other"])
def test_refuses_what_is_no_whole_address(text: str) -> None:
    with pytest.raises(VqError, match="is not a whole address"):
        parse_location(text)


@pytest.mark.parametrize("root", [Path("/run"), Uri("s3", "bucket/run")])
def test_paths_and_uris_are_joined_alike(root: Location) -> None:
    stats = root / "stats"
    assert str(stats) == f"{root}/stats"
    assert (stats.name, stats.parent, stats.with_name("x")) == ("stats", root, root / "x")


def test_what_is_joined_may_go_up_but_not_out() -> None:
    recipe = Uri("s3", "bucket/recipes/wan")
    assert recipe / "../../prompts" == Uri("s3", "bucket/prompts")
    with pytest.raises(VqError, match=r"leads out of s3://bucket/recipes/wan"):
        recipe / "../../../../x"


def test_what_is_said_relative_to_a_folder() -> None:
    for folder in (Path("/recipes"), Uri("s3", "bucket/recipes")):
        assert str(join(folder, "x")) == f"{folder}/x"
        assert join(folder, "/data/x") == Path("/data/x")
        assert join(folder, "gs://other/x") == Uri("gs", "other/x")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("int8=runs/q", NamedPath("int8", Path("runs/q"))),
        ("INT8 auto =runs/q", NamedPath("INT8 auto", Path("runs/q"))),
        ("runs/q", NamedPath("q", Path("runs/q"))),
        (".", NamedPath(".", Path())),
        ("fp8=s3://bucket/a=b/q", NamedPath("fp8", Uri("s3", "bucket/a=b/q"))),
        ("s3://bucket/q", NamedPath("q", Uri("s3", "bucket/q"))),
        ("runs/lr=3/q", NamedPath("q", Path("runs/lr=3/q"))),
        ("out/alpha=0.5", NamedPath("alpha=0.5", Path("out/alpha=0.5"))),
    ],
)
def test_names_stand_before_the_path_or_are_its_last_part(text: str, named: NamedPath) -> None:
    assert parse_named(text, "--qparams") == named


@pytest.mark.parametrize("text", ["int8=", "=runs/q", " =runs/q", ""])
def test_an_empty_name_or_path_is_refused(text: str) -> None:
    with pytest.raises(VqError, match=f"^`--qparams {text}` has an empty name or path: write --qparams NAME=PATH"):
        parse_named(text, "--qparams")


def test_refuses_an_empty_text() -> None:
    with pytest.raises(VqError, match="An empty text is no path: give one"):
        parse_location("")
