"""A case in which the inputs are sound and something around the command is not, from environment to output."""

import os
import resource
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from campaign.child import Call
from campaign.classify import Judged, Listing, Verdict
from campaign.stage import Stage, Told, judge


@dataclass(frozen=True)
class Setting:
    """A changed call, what prepares its process, and the words that say what was changed."""

    call: Call
    exactly: str
    prepare: Callable[[], object] | None = None


Change = Callable[[Call, Random], Setting]


def _environment(name: str, *values: str | None) -> Change:
    def change(call: Call, chance: Random) -> Setting:
        value = chance.choice(values)
        return Setting(replace(call, environment={name: value}), f"{name}={value!r}")

    return change


def _file(name: str, path: str) -> Change:
    """A variable that names a folder names a file."""

    def change(call: Call, chance: Random) -> Setting:
        (call.folder / path).write_text("a file\n")
        return Setting(replace(call, environment={name: str(call.folder / path)}), f"{name} is a file")

    return change


def _stream(**kinds: str) -> Change:
    return lambda call, chance: Setting(replace(call, **kinds), ", ".join(f"{k} {v}" for k, v in kinds.items()))  # type: ignore[arg-type]


def _limit(what: int, *values: int) -> Change:
    def change(call: Call, chance: Random) -> Setting:
        value = chance.choice(values)
        return Setting(call, f"at most {value}", lambda: resource.setrlimit(what, (value, value)))

    return change


def _umask(call: Call, chance: Random) -> Setting:
    mask = chance.choice((0o777, 0o277, 0o077))
    return Setting(call, f"umask {mask:o}", lambda: os.umask(mask))


def _read_only(call: Call, chance: Random) -> Setting:
    return Setting(call, "mode 555", lambda: call.folder.chmod(0o555))


def _no_directory(call: Call, chance: Random) -> Setting:
    gone = call.folder.parent / "gone"

    def prepare() -> None:
        gone.mkdir()
        os.chdir(gone)
        gone.rmdir()

    return Setting(call, "the working directory is removed", prepare)


def _in_the_way(call: Call, chance: Random) -> Setting:
    """Something lies where the output, or what is unfinished of it, goes."""
    name = chance.choice(("out", "out.partial", "out.unverified", "out.mkv", ".out.partial", "out.lock", ".out.lock"))
    path, kind = call.folder / name, chance.randrange(4)
    if name == "out.partial" and kind == 1:  # an empty one may be used
        kind = 2
    if kind == 0:
        path.write_text("a file of the user's\n")
    elif kind == 1:
        path.mkdir()
    elif kind == 2:
        path.mkdir()
        (path / "users.txt").write_text("a file of the user's\n")
    else:
        path.symlink_to("nowhere")
    return Setting(call, f"{name}: {('a file', 'an empty folder', 'a folder', 'a dangling link')[kind]}")


CHANGES: dict[str, Change] = {
    "no HOME": _environment("HOME", None, "", "/nonexistent", "/proc/nowhere"),
    "odd VQ_CACHE": _environment("VQ_CACHE", None, "", "/proc/nowhere"),
    "VQ_CACHE is a file": _file("VQ_CACHE", ".home/cache-file"),
    "TMPDIR is missing": _environment("TMPDIR", "/nonexistent", ""),
    "TMPDIR is a file": _file("TMPDIR", ".home/tmp-file"),
    "odd COLUMNS": _environment("COLUMNS", "1", "0", "-5", "text", "100000", None),
    "odd LANG": _environment("LANG", "C", "de_DE.ISO-8859-1", "nonsense", None),
    "odd PATH": _environment("PATH", "", None, "/nonexistent"),
    "ranks": _environment("WORLD_SIZE", "0", "text", "-1", ""),
    "stdout closed": _stream(stdout="closed"),
    "stdout full": _stream(stdout="full"),
    "stderr closed": _stream(stderr="closed"),
    "stderr full": _stream(stderr="full"),
    "both closed": _stream(stdout="closed", stderr="closed"),
    "ASCII output": _stream(encoding="ascii"),
    "Latin-1 output": _stream(encoding="latin-1"),
    "few files at once": _limit(resource.RLIMIT_NOFILE, 16, 24, 40, 64),
    "files of limited size": _limit(resource.RLIMIT_FSIZE, 4000, 20_000, 200_000),
    "umask": _umask,
    "read-only folder": _read_only,
    "no working directory": _no_directory,
    "something in the way": _in_the_way,
}

LAYOUT = {"odd COLUMNS", "odd LANG", "ASCII output", "Latin-1 output"}
"""Changes after which a table on stdout may look different."""


FINISHED = "files that were to be written are finished"
"""What a command says that could not print its summary."""


def run(stage: Stage) -> Told:
    """Choose a change; run; judge."""
    name = stage.chance.choice(list(CHANGES))
    setting = CHANGES[name](stage.call, stage.chance)
    speechless, silent = setting.call.stderr != "file", setting.call.stdout != "file"
    scene = stage.scene(speechless=speechless)
    outcome = stage.run(setting.call, setting.prepare)
    _open_again(stage.folder, scene.before)
    if (
        stage.road.output is not None and outcome.code == 2 and FINISHED in outcome.stderr
    ):  # then what was written has to be whole and right
        outcome = replace(outcome, code=0)
    if setting.call.stdout == "full" and outcome.code == 0 and stage.road.output is None:
        judged = Judged(Verdict.WRONG, "exit 0 although the result could not be printed")
    elif silent and outcome.code == 0 and stage.road.output is None:
        judged = Judged(Verdict.HARMLESS)
    else:
        excuse = "a table looks different there" if name in LAYOUT and stage.road.output is None else None
        judged = judge(scene, outcome, excuse)
    return stage.told(f"surroundings: {name}", setting.exactly, judged)


def _open_again(folder: Path, before: Listing) -> None:
    """Let what the command has written be read, whatever its mode."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        if path.relative_to(folder).as_posix() not in before and not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o700)
