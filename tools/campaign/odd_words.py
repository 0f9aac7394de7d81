"""A case in which a word of the command line is odd: the value of any option that the command has, or its output."""

from dataclasses import replace
from importlib import import_module
from typing import Any

from typer.main import get_command

from campaign import damage
from campaign.classify import Judged
from campaign.roads import Road
from campaign.stage import Stage, Told, judge

NUMBERS = (
    "nan", "inf", "-inf", "1e999", str(2**31), str(2**63), str(2**64), "-1", "0", "-0", "9" * 5000, "1_000",
    "0x10", "٣", "1e3",
)  # fmt: skip
TEXTS = (
    "",
    " ",
    ".",
    "..",
    "/dev/null",
    "x" * 300,
    "x" * 5000,
    "a\nb",
    "\x1b[31mred",
    "\udcff",
    "-",
    "--",
    "~",
    "%s",
    "{}",
    "é",
)
OUTPUTS = (
    ".", "", "..", "out/", "./out", "prompts", "t2v", "/dev/null", "/dev/full", "x" * 300, "http://127.0.0.1:9/x.mkv",
    "pipe:1.mkv", "-y", "concat:x.mkv", "file:out.mkv", "tee:out.mkv", "%03d.mkv", "out.xyz", "out.gif", "new/dir/out",
    "new/dir/out.mkv", "~", "two words.mkv", "two words", "\x1b[31mred.mkv", "a\nb", "s3://nowhere/out", "nowhere://out",
    "out.mkv/out.mkv", "out.partial", "\udcff", "é", "-", "cache:out.mkv", "data:out.mkv", "NUL", "a:b",
)  # fmt: skip
SENSIBLE = {"-1", "0", "-0", str(2**31), "1_000", "1e3", "٣", str(2**63), str(2**64)}
"""Numbers that some option may take."""


def options_of(road: Road) -> list[Any]:
    """The options of the command that take a value."""
    program, name = road.words[:2]
    group: Any = get_command(import_module(f"{program.replace('-', '_')}.cli").app)
    taken = [it for it in group.commands[name].params if it.param_type_name == "option" and not it.is_flag]
    return [it for it in taken if "--output" not in it.opts]


def run(stage: Stage) -> Told:
    """Choose an option and a value; run; judge. A command that has none of these gets a damaged input instead."""
    if stage.road.output is not None and stage.chance.random() < 0.4:
        return _with_odd_output(stage)
    options = options_of(stage.road)
    if not options:
        return damage.run(stage)
    option = stage.chance.choice(options)
    numeric = option.type_descriptor.annotation in (int, float)
    value = stage.chance.choice(NUMBERS if numeric or stage.chance.random() < 0.2 else TEXTS)
    words = _with(list(stage.road.words), option.opts, value)
    scene = stage.scene(cache=value if "--cache" in option.opts else None)
    outcome = stage.run(replace(stage.call, arguments=tuple(words)))
    excuse = None if numeric and value not in SENSIBLE else f"{option.opts[0]} is another one"
    return stage.told("an odd option value", f"{option.opts[0]} {value!r}"[:100], judge(scene, outcome, excuse))


def _with(words: list[str], names: list[str], value: str) -> list[str]:
    """The words with the option's value changed, or the option added."""
    for place, word in enumerate(words[:-1]):
        if word in names:
            return [*words[: place + 1], value, *words[place + 2 :]]
    return [*words, names[0], value]


def _with_odd_output(stage: Stage) -> Told:
    value = stage.chance.choice(OUTPUTS)
    words = tuple(value if word == stage.road.output else word for word in stage.road.words)
    scene = stage.scene(output=value.rstrip("/").removeprefix("./") or value)
    outcome = stage.run(replace(stage.call, arguments=words))
    judged: Judged = judge(scene, outcome, _excuse_of(value))
    return stage.told("an odd output", f"-o {value!r}"[:60], judged)


def _excuse_of(value: str) -> str | None:
    """Why what lies there may be another file: its format is another one."""
    return "another format" if value.endswith((".xyz", ".gif", ".mkv", ".mp4")) or ":" in value else None
