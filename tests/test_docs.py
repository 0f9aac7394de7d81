"""Modules, names, files and headings that the pages mention exist, and architecture.md names every room."""

import re
from collections import Counter
from importlib.metadata import entry_points
from pathlib import Path
from pkgutil import resolve_name

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/*.md"), *ROOT.glob("packages/*/*.md")]
)

OURS = re.compile(r"`(vq_\w+(?:\.\w+)+)`")
PATH = re.compile(r"`(vq_\w+/[\w/]*(?:\.py)?)`")
LINK = re.compile(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)")
HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def mentioned(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """Each page with each name that `pattern` finds there."""
    found = {(page, name) for page in PAGES for name in pattern.findall(page.read_text(encoding="utf-8"))}
    return sorted((page.relative_to(ROOT).as_posix(), name) for page, name in found)


def anchors(page: Path) -> set[str]:
    """The anchors of the headings of `page`, as GitHub makes them."""
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(("page", "name"), mentioned(OURS))
def test_name_that_a_page_mentions_exists(page: str, name: str) -> None:
    if not entry_points(group=name):
        resolve_name(name)


@pytest.mark.parametrize(("page", "path"), mentioned(PATH))
def test_path_that_a_page_mentions_exists(page: str, path: str) -> None:
    assert list(ROOT.glob(f"packages/*/src/{path}"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        assert not anchor or anchor in anchors(there), f"{target}#{anchor}"


def test_the_architecture_page_names_every_room_once() -> None:
    named = Counter(OURS.findall((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))
    inits = [
        path.relative_to(source) for source in ROOT.glob("packages/*/src") for path in source.glob("*/**/__init__.py")
    ]
    rooms = sorted({".".join(path.parent.parts) for path in inits if len(path.parts) > 2})
    assert {room: named[room] for room in rooms} == dict.fromkeys(rooms, 1)
