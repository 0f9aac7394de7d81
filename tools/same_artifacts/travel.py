"""Run the commands on stdin, one a line, in one process: importing torch for each would take most of the time.

It runs in the environment of either commit, so it finds commands by their names and imports nothing else of ours.
"""

import shlex
import sys
from importlib.metadata import entry_points

for line in sys.stdin:
    print(f"$ {line}", end="", file=sys.stderr, flush=True)
    program, *sys.argv[1:] = shlex.split(line)
    (command,) = entry_points(group="console_scripts", name=program)
    try:
        command.load()()
    except SystemExit as end:
        if end.code:
            sys.exit(f"failed: {line}")
