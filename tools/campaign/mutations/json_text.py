"""Damage to JSON that is written anew: keys, values, types, depth and spelling."""

import json
from typing import Any

from campaign.mutations.target import Mutation, Target

Parent = dict[str, Any] | list[Any]

ODD_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 10**5, 2**31, 2**63, 2**64, 10**400, 1e308, -0.0, 1.5, "", " ", "0", "null", "nan",
    "../../../../etc/hostname", "/etc/hostname", "a\0b", "\x1b]0;title\x07\x1b[31m", "line\nline", "é" * 50,
    "x" * 100_000, [], {}, [[]], [None], {"": None}, "http://127.0.0.1:9/x", "s3://nowhere/x", ".", "..", "file:///etc/hostname",
)  # fmt: skip


def _places(value: Any) -> list[tuple[Parent, Any]]:
    """Every (container, key) in it."""
    found: list[tuple[Parent, Any]] = []
    waiting = [value]
    while waiting:
        it = waiting.pop()
        if isinstance(it, dict | list):
            keys = list(it) if isinstance(it, dict) else range(len(it))
            found += [(it, key) for key in keys]
            waiting += [it[key] for key in keys]
    return found


def _read(target: Target) -> tuple[Any, list[tuple[Parent, Any]]]:
    content = json.loads(target.path.read_text(encoding="utf-8"))
    places = _places(content)
    return content, places


def _write(target: Target, content: Any) -> None:
    target.replace(json.dumps(content, ensure_ascii=False, indent=1).encode("utf-8", "surrogatepass"))


def _edit(target: Target, change: Any) -> str | None:
    content, places = _read(target)
    if not places:
        return None
    shallow = [(parent, key) for parent, key in places if parent is content]
    parent, key = target.chance.choice(shallow if shallow and target.chance.random() < 0.5 else places)
    said: str | None = change(parent, key)
    if said is not None:
        _write(target, content)
    return said


def drop_key(target: Target) -> str | None:
    def change(parent: Any, key: Any) -> str:
        del parent[key]
        return f"{key!r}"

    return _edit(target, change)


def rename_key(target: Target) -> str | None:
    def change(parent: Any, key: Any) -> str | None:
        if not isinstance(parent, dict):
            return None
        new = target.chance.choice((key.upper(), key + "_", "", "__proto__", "\x1b[31m" + key))
        parent[new] = parent.pop(key)
        return f"{key!r} to {new!r}"

    return _edit(target, change)


def add_key(target: Target) -> str | None:
    def change(parent: Any, key: Any) -> str:
        if isinstance(parent, dict):
            parent["unheard_of"] = target.chance.choice(ODD_VALUES)
        else:
            parent.insert(key, parent[key])
        return f"beside {key!r}"

    return _edit(target, change)


def odd_value(target: Target) -> str | None:
    value = target.chance.choice(ODD_VALUES)

    def change(parent: Any, key: Any) -> str:
        parent[key] = value
        return f"{key!r} is {value!r}"[:80]

    return _edit(target, change)


def other_number(target: Target) -> str | None:
    def change(parent: Any, key: Any) -> str | None:
        old = parent[key]
        if isinstance(old, bool) or not isinstance(old, int | float):
            return None
        parent[key] = target.chance.choice((old + 1, old - 1, -old, old * 2, old * 10**6, str(old), float(old), 0))
        return f"{key!r}: {old} is {parent[key]!r}"

    return _edit(target, change)


def other_text(target: Target) -> str | None:
    def change(parent: Any, key: Any) -> str | None:
        old = parent[key]
        if not isinstance(old, str):
            return None
        parent[key] = target.chance.choice(
            (old[:-1], old + "x", old.upper(), f"../{old}", f"{old}/..", f" {old}", old + "\0")
        )
        return f"{key!r}: {old!r} is {parent[key]!r}"[:100]

    return _edit(target, change)


def exchange_values(target: Target) -> str | None:
    content, places = _read(target)
    if len(places) < 2:
        return None
    (parent, key), (other, second) = target.chance.sample(places, 2)
    try:
        parent[key], other[second] = other[second], parent[key]
        _write(target, content)
    except (KeyError, IndexError, ValueError):  # one lies in the other
        return None
    return f"{key!r} and {second!r}"


def _spell(target: Target, spelling: str) -> str | None:
    """Put a spelling that `json.dumps` never gives in the place of one value."""
    mark = "@mark@"

    def change(parent: Any, key: Any) -> str:
        parent[key] = mark
        return f"{key!r}"

    said = _edit(target, change)
    if said is not None:
        target.replace(
            target.path.read_bytes().replace(f'"{mark}"'.encode(), spelling.encode("utf-8", "surrogatepass"))
        )
    return said


def not_a_number(target: Target) -> str | None:
    return _spell(target, target.chance.choice(("NaN", "Infinity", "-Infinity", "1e999", "-1e999")))


def huge_integer(target: Target) -> str | None:
    return _spell(target, "7" * 5000)


def deep(target: Target) -> str | None:
    return _spell(target, "[" * 100_000 + "]" * 100_000)


def lone_surrogate(target: Target) -> str | None:
    return _spell(target, target.chance.choice((r'"\ud800"', r'"a\udfffb"')))


def control_character(target: Target) -> str | None:
    return _spell(target, target.chance.choice(('"a\x01b"', r'"\u001b[2J\u001b[31m"', r'"\u0000"', r'"\u202ea"')))


def duplicate_key(target: Target) -> str | None:
    content = json.loads(target.path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not content:
        return None
    key = target.chance.choice(list(content))
    first = json.dumps({key: target.chance.choice(ODD_VALUES[:10])})[:-1]
    target.replace((first + ", " + json.dumps(content)[1:]).encode())
    return f"{key!r} twice"


def top_level(target: Target) -> str:
    text = target.chance.choice(("null", "[]", "{}", '"text"', "3", "[[]]", "true", "{}{}", "{} x", "[" * 100_000))
    target.replace(text.encode())
    return text[:10]


def byte_order_mark(target: Target) -> str:
    target.replace(b"\xef\xbb\xbf" + target.path.read_bytes())
    return "UTF-8's"


def utf_16(target: Target) -> str:
    target.replace(target.path.read_text(encoding="utf-8").encode("utf-16"))
    return "UTF-16"


def comment(target: Target) -> str:
    target.replace(b"// a comment\n" + target.path.read_bytes())
    return "a comment on top"


MUTATIONS: dict[str, Mutation] = {
    "key dropped": drop_key,
    "key renamed": rename_key,
    "key added": add_key,
    "odd value": odd_value,
    "another number": other_number,
    "another text": other_text,
    "values exchanged": exchange_values,
    "NaN or infinity": not_a_number,
    "5000 digits": huge_integer,
    "100,000 levels": deep,
    "lone surrogate": lone_surrogate,
    "control characters": control_character,
    "key twice": duplicate_key,
    "other top level": top_level,
    "byte order mark": byte_order_mark,
    "UTF-16": utf_16,
    "comment": comment,
}
