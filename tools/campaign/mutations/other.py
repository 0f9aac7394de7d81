"""Damage to text, and to zip files with a pickle in them (`.pth`)."""

import io
import zipfile

from campaign.mutations.target import Mutation, Target


def _inserted(target: Target, text: str) -> None:
    old = target.path.read_text(encoding="utf-8")
    where = target.chance.randrange(len(old) + 1)
    target.replace((old[:where] + text + old[where:]).encode("utf-8", "surrogatepass"))


def control_characters(target: Target) -> str:
    text = target.chance.choice(("\x1b[31m", "\x1b]0;title\x07", "\0", "\u202e", "\x08" * 20, "\x9b2J"))
    _inserted(target, text)
    return f"{text!r}"


def long_text(target: Target) -> str:
    _inserted(target, "word " * 20_000)
    return "100 kB"


def bad_encoding(target: Target) -> str:
    target.replace(target.path.read_bytes() + target.chance.choice((b"\xff\xfe", b"\xc3", b"\xed\xa0\x80")))
    return "no UTF-8"


TEXT: dict[str, Mutation] = {
    "control characters": control_characters,
    "100 kB more": long_text,
    "no UTF-8": bad_encoding,
}

RUNS_A_COMMAND = b"cposix\nsystem\n(S'touch pwned'\ntR."


def _rewritten(target: Target, name_part: str, content: bytes | None) -> str | None:
    """The archive with other content in the member whose name ends so; None leaves it out."""
    written = io.BytesIO()
    with zipfile.ZipFile(target.path) as old, zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as new:
        members = [it for it in old.namelist() if name_part in it]
        if not members:
            return None
        chosen = target.chance.choice(members)
        for name in old.namelist():
            if name != chosen:
                new.writestr(name, old.read(name))
            elif content is not None:
                new.writestr(name, content)
    target.replace(written.getvalue())
    return chosen


def hostile_pickle(target: Target) -> str | None:
    return _rewritten(target, "data.pkl", RUNS_A_COMMAND)


def hostile_pickle_alone(target: Target) -> str:
    target.replace(RUNS_A_COMMAND)
    return "a pickle that runs a command"


def member_gone(target: Target) -> str | None:
    return _rewritten(target, "/", None)


def member_empty(target: Target) -> str | None:
    return _rewritten(target, "/data/", b"")


def member_zeros(target: Target) -> str | None:
    return _rewritten(target, "/data/", bytes(64))


ZIP: dict[str, Mutation] = {
    "hostile pickle": hostile_pickle,
    "hostile pickle alone": hostile_pickle_alone,
    "member gone": member_gone,
    "member empty": member_empty,
    "member of zeros": member_zeros,
}
