"""Two folders of artifacts, compared tensor by tensor and value by value, bit for bit."""

import json
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from torch import Tensor

VARYING = (
    "tool", "vq.tool", "digest", "parents.*", "vq.parents.*", "files.*", "*.versions.*", "*.tools.*",
    "seconds", "measured.seconds_per_video.*",
)  # fmt: skip
"""Values that differ between versions of the tools, from run to run, or because a file does that is compared itself."""

Content = Tensor | str | bytes


class Difference(NamedTuple):
    """`where` is FILE:NAME, NAME that of a tensor or of a value in JSON; `what` the difference."""

    where: str
    what: str


def differences(before: Path, after: Path) -> list[Difference]:
    """How the artifacts in `after` differ from those in `before`."""
    old, new = ({str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()} for root in (before, after))
    found = [Difference(f"{name}:", "file is missing") for name in old - new]
    found += [Difference(f"{name}:", "file is extra") for name in new - old]
    for name in old & new:
        sides = contents(before / name), contents(after / name)
        found += [Difference(f"{name}:{entry}", what) for entry, what in _between(*sides)]
    return sorted(found)


def contents(path: Path) -> dict[str, Content]:
    """Tensors of a safetensors file and the JSON in its header; values of JSON as text; bytes of any other file."""
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            noted = {key: _parsed(value) for key, value in (file.metadata() or {}).items()}
            return {name: file.get_tensor(name) for name in file.keys()} | dict(_leaves(noted))  # noqa: SIM118
    if path.suffix == ".json":
        return dict(_leaves(json.loads(path.read_text(encoding="utf-8"))))
    return {"": path.read_bytes()}


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every value in nested JSON by its keys and indices, joined with dots; a varying one as an empty text."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if inner:
        for key, item in inner:
            yield from _leaves(item, f"{name}.{key}" if name else str(key))
    else:
        yield name, "" if any(fnmatchcase(name, pattern) for pattern in VARYING) else json.dumps(value)


def _between(before: dict[str, Content], after: dict[str, Content]) -> Iterator[tuple[str, str]]:
    for name in before.keys() - after.keys():
        yield name, "is missing"
    for name in after.keys() - before.keys():
        yield name, "is extra"
    for name in before.keys() & after.keys():
        what = _difference(before[name], after[name])
        if what:
            yield name, what


def _difference(before: Content, after: Content) -> str | None:
    if isinstance(before, Tensor) and isinstance(after, Tensor):
        kinds = [f"{tensor.dtype} {list(tensor.shape)}" for tensor in (before, after)]
        if kinds[0] != kinds[1]:
            return f"was {kinds[0]} and is {kinds[1]}"
        unlike = int((_bits(before) != _bits(after)).any(dim=1).sum())
        return f"differs in {unlike} of {before.numel()} elements" if unlike else None
    if before == after:
        return None
    if isinstance(before, bytes) or isinstance(after, bytes):
        return "differs"
    return f"was {before} and is {after}"


def _bits(tensor: Tensor) -> Tensor:
    """Bytes of each element, `[elements, bytes]`."""
    return tensor.reshape(-1, 1).view(torch.uint8)
