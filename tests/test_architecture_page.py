"""docs/architecture.md names every room of every package once, and nothing that does not exist."""

import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NAMED = Counter(re.findall(r"`(vq_\w+(?:\.\w+)+)`", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")))
SOURCES = sorted(ROOT.glob("packages/*/src"))


def rooms() -> set[str]:
    """Every sub-package by its dotted name."""
    inits = [path.relative_to(source) for source in SOURCES for path in source.glob("*/**/__init__.py")]
    return {".".join(path.parent.parts) for path in inits if len(path.parts) > 2}


def test_every_room_stands_there_once() -> None:
    assert {room: NAMED[room] for room in sorted(rooms())} == dict.fromkeys(sorted(rooms()), 1)


def test_what_stands_there_exists() -> None:
    modules = [name for name in NAMED if name not in rooms()]
    assert [name for name in modules if not any(_module(source, name).is_file() for source in SOURCES)] == []


def _module(source: Path, name: str) -> Path:
    return source.joinpath(*name.split(".")).with_suffix(".py")
