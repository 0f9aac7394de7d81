"""The commands of the stages, run one after another in one process as they would be typed, and timed."""

import contextlib
import io
import json
import shlex
import subprocess
import sys
import time
from importlib import import_module
from typing import Any

from rich.console import Console


class Road:
    """Runs commands one after another: each is shown and timed, and gives its JSON result."""

    def __init__(self, console: Console, prefix: str = "") -> None:
        """Begin a road.

        Args:
            console: shows the commands.
            prefix: of each command, if several roads share a console.
        """
        self.seconds: dict[str, float] = {}
        self._console = console
        self._prefix = prefix

    def run(self, command: str, *arguments: object, stage: str | None = None) -> dict[str, Any]:
        """Run `command` (such as `vq-calib collect`) and return its JSON result; its seconds count for `stage`."""
        words = [str(argument) for argument in arguments]
        line = f"{self._prefix}$ {shlex.join([*command.split(), *words])}"
        self._console.print(line, style="bold", highlight=False, markup=False, soft_wrap=True)
        program, *sub_command = command.split()
        app = import_module(f"{program.replace('-', '_')}.cli").app
        start = time.monotonic()
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            app([*sub_command, *words, "--json"], standalone_mode=False)
        name = stage or command
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - start
        result: dict[str, Any] = json.loads(printed.getvalue())
        return result


def run_apart(command: str, *arguments: object) -> dict[str, Any]:
    """Run `command` in a process of its own, so that its memory is measured alone, and return its JSON result."""
    package, *words = command.replace("-", "_", 1).split()
    program = f"from {package}.cli import main; main()"
    full = [sys.executable, "-c", program, *words, *map(str, arguments), "--json"]
    result: dict[str, Any] = json.loads(subprocess.run(full, check=True, stdout=subprocess.PIPE).stdout)
    return result
