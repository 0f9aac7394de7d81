"""What this process says to people: streams that may be closed or full, and names that somebody else has chosen.

Free of heavy imports.
"""

import os
import re
import sys
from collections.abc import Iterator
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any

from rich.console import Console, ConsoleOptions, ConsoleRenderable, RenderableType, RenderHook
from rich.segment import Segment

from vq_core.errors import VqError

# Of ASCII, of Latin-1, and those that turn the direction of what follows; a tab and the end of a line are harmless.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


MAX_SENTENCE = 1600  # characters


def printable(text: str) -> str:
    r"""`text` with every control character as Python writes it, such as `\x1b`: it would act on the terminal."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def one_line(sentence: str) -> str:
    r"""`sentence` with its ends of lines shown, as `\n`, and without its middle where a value makes it endless."""
    said = printable(sentence.replace("\n", "\\n"))
    return said if len(said) <= MAX_SENTENCE else f"{said[: MAX_SENTENCE // 2]}…{said[-MAX_SENTENCE // 4 :]}"


def new_console(**options: Any) -> Console:
    """A console that shows control characters instead of sending them; `options` are those of rich's."""
    made = Console(**options)
    made.push_render_hook(_Printable())
    return made


def guard_streams() -> None:
    """Let nothing that is said break a command.

    A stream that is closed gets the null device, because the next file to be opened would get its number, and what is
    said would go into that file. A character that a stream's encoding lacks is written with backslashes. What stderr
    cannot take is lost; what stdout cannot take is a VqError, when it is flushed at the latest.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free, which is this one
        stream = getattr(sys, name)
        if name == "stdin" or stream is not getattr(sys, f"__{name}__"):  # a program has put its own there
            continue
        if stream is not None:
            stream.flush()
        raw = BufferedWriter(_Guarded(number))
        encoding, in_lines = getattr(stream, "encoding", "utf-8"), getattr(stream, "line_buffering", False)
        guarded = TextIOWrapper(raw, encoding, errors="backslashreplace", line_buffering=in_lines)
        setattr(sys, name, guarded)


class _Guarded(FileIO):
    """The descriptor of stdout or stderr; after one failure it takes everything and drops it."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._failed = False

    def write(self, content: Any) -> int:
        try:
            return len(content) if self._failed else super().write(content) or 0
        except OSError as error:
            is_result = self.fileno() == 1
            if is_result and isinstance(error, BrokenPipeError):  # whoever reads has read enough, which typer knows
                raise
            self._failed = True
            if is_result:
                raise VqError(
                    f"What was to be printed cannot be written to stdout ({error.strerror}): "
                    "files that were to be written are finished; send stdout somewhere else."
                ) from None
            return len(content)


class _Printable(RenderHook):
    def process_renderables(self, renderables: list[ConsoleRenderable]) -> list[ConsoleRenderable]:
        return [_Shown(renderable) for renderable in renderables]


class _Shown:
    """What `renderable` renders, with control characters shown."""

    def __init__(self, renderable: RenderableType) -> None:
        self._renderable = renderable

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        for text, style, control in console.render(self._renderable, options):
            yield Segment(text if control else printable(text), style, control)
