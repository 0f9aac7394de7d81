"""Damage to YAML: as to JSON, and what only YAML has."""

import json
from typing import Any

import yaml

from campaign.mutations import json_text
from campaign.mutations.target import Mutation, Target


def _through_json(mutation: Mutation) -> Mutation:
    """A mutation of JSON on the same content, which is YAML as well."""

    def mutate(target: Target) -> str | None:
        content: Any = yaml.safe_load(target.path.read_text(encoding="utf-8"))
        target.replace(json.dumps(content).encode())
        return mutation(target)

    return mutate


def _added(target: Target, text: str) -> str:
    target.replace(target.path.read_bytes() + b"\n" + text.encode())
    return text.strip()[:60]


def tag(target: Target) -> str:
    tags = (
        "extra: !!python/object/apply:os.system ['touch pwned']\n",
        "extra: !!python/name:os.system\n",
        "extra: !unknown 3\n",
        "extra: !!binary aGFsbG8=\n",
        "extra: !!set {a, b}\n",
        "extra: 2026-11-30\n",
    )
    return _added(target, target.chance.choice(tags))


def merge_bomb(target: Target) -> str:
    levels = ["b0: &b0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    levels += [f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]" for i in range(1, 10)]
    return _added(target, "\n".join(levels) + "\n") and "nine to the tenth"


def merge_key_bomb(target: Target) -> str:
    levels = ["m0: &m0 {a: 1, b: 2, c: 3}"]
    levels += [f"m{i}: &m{i} {{<<: [{', '.join([f'*m{i - 1}'] * 20)}]}}" for i in range(1, 9)]
    return _added(target, "\n".join(levels) + "\n") and "twenty to the eighth"


def alias_to_itself(target: Target) -> str:
    return _added(target, "loop: &loop [*loop]\n")


def undefined_alias(target: Target) -> str:
    return _added(target, "extra: *nowhere\n")


def duplicate_key(target: Target) -> str | None:
    content = yaml.safe_load(target.path.read_text(encoding="utf-8"))
    key = target.chance.choice(list(content))
    return _added(target, yaml.safe_dump({key: content[key]}))


def two_documents(target: Target) -> str:
    return _added(target, "---\na: 1\n")


def tab(target: Target) -> str:
    return _added(target, "extra:\n\tkey: 1\n")


def deep(target: Target) -> str:
    _added(target, "extra: " + "[" * 50_000 + "]" * 50_000 + "\n")
    return "50,000 levels"


def odd_scalar(target: Target) -> str:
    scalars = (".nan", ".inf", "0o17", "1_000", "1:30", "yes", "~", "'\\x1b[31m'", '"\\e[31m"', "7" * 5000)
    return _added(target, f"extra: {target.chance.choice(scalars)}\n")


MUTATIONS: dict[str, Mutation] = {
    **{name: _through_json(mutation) for name, mutation in json_text.MUTATIONS.items()},
    "tag": tag,
    "bomb of aliases": merge_bomb,
    "bomb of merge keys": merge_key_bomb,
    "alias to itself": alias_to_itself,
    "undefined alias": undefined_alias,
    "key twice": duplicate_key,
    "two documents": two_documents,
    "tab": tab,
    "50,000 levels": deep,
    "odd scalar": odd_scalar,
}
