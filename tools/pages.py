"""Pages that measurements write: Markdown for people, with JSON beside it for machines."""

import json
import os
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol


class Judged(Protocol):
    """A requirement that was measured."""

    @property
    def met(self) -> bool:
        """Whether it is met."""

    @property
    def text(self) -> str:
        """The requirement, what was measured and the limit, in one line."""


def typed(script: str, target: str) -> str:
    """What was typed to run `script`, a path below the root: `make target`, unless there were arguments."""
    return shlex.join(["python", script, *sys.argv[1:]]) if sys.argv[1:] else f"make {target}"


def today() -> str:
    """The date, such as `2026-11-30`."""
    return datetime.now(UTC).date().isoformat()


def machine() -> str:
    """Where it was measured, such as `2 CPU cores` or `NVIDIA H200, 16 CPU cores`."""
    import torch

    card = [torch.cuda.get_device_name()] if torch.cuda.is_available() else []
    return ", ".join([*card, f"{os.cpu_count()} CPU cores"])


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def write_page(folder: Path, name: str, markdown: str, content: Mapping[str, object]) -> Path:
    """Write `name.json` and `name.md` to `folder` and return the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    page = folder / f"{name}.md"
    page.write_text(markdown, encoding="utf-8")
    return page


def outcome(judged: Sequence[Judged]) -> str:
    """How many requirements are missed, in a sentence."""
    missed = sum(not one.met for one in judged)
    return f"{missed} of {len(judged)} requirements are missed." if missed else "All requirements are met."


def verdict_cell(one: Judged) -> str:
    """Whether a requirement is met, for a table."""
    return "met" if one.met else "**missed**"


def enforce(judged: Sequence[Judged]) -> None:
    """Print every requirement; exit with 1 if one is missed."""
    for one in judged:
        print(f"{'met   ' if one.met else 'MISSED'} {one.text}")
    if not all(one.met for one in judged):
        sys.exit(1)
