"""Which mutations there are for a file, and the choice of one."""

from pathlib import Path

from campaign.mutations import entry, json_text, media, other, raw, tensors, yaml_text
from campaign.mutations.kinds import Kind, kind_of
from campaign.mutations.target import Mutation, Target

OF_ALL: dict[str, dict[str, Mutation]] = {"bytes": raw.MUTATIONS, "entry": entry.MUTATIONS}
OF_KIND: dict[Kind, dict[str, Mutation]] = {
    Kind.JSON: json_text.MUTATIONS,
    Kind.YAML: yaml_text.MUTATIONS,
    Kind.SAFETENSORS: tensors.MUTATIONS,
    Kind.PICTURE: media.PICTURE,
    Kind.VIDEO: media.VIDEO,
    Kind.ZIP: other.ZIP,
    Kind.TEXT: other.TEXT,
}
TRIES = 20


def choose(path: Path, chance: float, pick: float) -> tuple[str, str]:
    """A group of mutations and one of them, by two numbers from 0 to 1: half of the time those of the file's kind."""
    kind = kind_of(path)
    if kind in OF_KIND and chance < 0.5:
        group, table = kind.value, OF_KIND[kind]
    else:
        group = "bytes" if chance < 0.75 else "entry"
        table = OF_ALL[group]
    names = sorted(table)
    return group, names[int(pick * len(names))]


def mutate(target: Target) -> tuple[str, str]:
    """Damage the file by one mutation that fits it: `GROUP: NAME`, and what was done."""
    for _ in range(TRIES):
        group, name = choose(target.path, target.chance.random(), target.chance.random())
        kept = target.path.read_bytes()
        said = _table(group)[name](target)
        if said is not None:
            return f"{group}: {name}", said
        if target.path.read_bytes() != kept:
            target.replace(kept)
    said = raw.append(target)
    return "bytes: append", said


def _table(group: str) -> dict[str, Mutation]:
    return OF_ALL[group] if group in OF_ALL else OF_KIND[Kind(group)]
