"""What a mutation gets: one file of an input, and the chance by which it decides."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from campaign.inputs import files_below


@dataclass(frozen=True)
class Target:
    """A file to damage.

    Attributes:
        path: the file, below `root`.
        root: the input that it is part of: a folder, or the file itself.
        chance: decides everything that is left open.
    """

    path: Path
    root: Path
    chance: Random

    def sibling(self) -> Path | None:
        """Another file of the same suffix in the same input, if there is one."""
        others = [it for it in files_below(self.root) if it != self.path and it.suffix == self.path.suffix]
        return self.chance.choice(others) if others else None

    def replace(self, content: bytes) -> None:
        """Put other bytes in the file's place."""
        self.path.unlink()
        self.path.write_bytes(content)

    def place(self, size: int) -> int:
        """A position in `size` bytes, every second time in the first or last of them."""
        if self.chance.random() < 0.5:
            return self.chance.randrange(size)
        near = self.chance.randrange(min(size, 512))
        return near if self.chance.random() < 0.7 else size - 1 - near


Mutation = Callable[[Target], str | None]
"""Damages a file and says how; None where the file is not one that it can damage."""


def exchange(first: Path, second: Path) -> None:
    """Let two files change places."""
    between = first.with_name(f"{first.name}.exchanged")
    first.rename(between)
    second.rename(first)
    between.rename(second)
