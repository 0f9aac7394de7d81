"""What a command has made, value by value: numbers and texts in its files and on stdout, digests of tensors."""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from campaign.inputs import files_below
from same_artifacts.compare import VARYING

Leaves = dict[str, str]
"""By `FILE:NAME`: a value of JSON, the digest of a tensor or of a whole file."""

NEVER_THE_SAME = (*VARYING, "usage.*", "*seconds*", "*.time", "output", "*.output", "manifest", "videos_per_hour")


def leaves_of(folder: Path, output: str | None, stdout: str) -> Leaves:
    """What lies in `folder / output`, and where nothing is written what was printed."""
    if output is None:
        return dict(_printed(stdout))
    found: Leaves = {}
    top = folder / output
    if not top.exists():
        return {"": "nothing"}
    for file in files_below(top):
        if file.name.startswith(".") and file != top:  # a leftover, if it is anything
            continue
        name = file.relative_to(folder).as_posix()
        found |= {f"{name}:{key}": value for key, value in _leaves_of_file(file)}
    return {key: value.replace(str(folder), ".") for key, value in found.items()}


def compared(made: Mapping[str, str], right: Mapping[str, str], varying: set[str]) -> list[str]:
    """The names of the values that differ, those that vary from run to run left out."""
    names = {*made, *right} - varying
    return sorted(name for name in names if made.get(name) != right.get(name))


def varying_between(runs: list[Leaves]) -> set[str]:
    """The names of the values that are not the same in all runs."""
    return {name for run in runs for name in run if any(other.get(name) != run[name] for other in runs)}


def not_finite(folder: Path, output: str | None, stdout: str) -> list[str]:
    """The values in what was made that are no finite numbers."""
    found = [name for name, value in leaves_of(folder, output, stdout).items() if value in _NOT_FINITE]
    if output is not None and (folder / output).exists():
        for file in files_below(folder / output):
            if file.suffix == ".safetensors":
                found += [f"{file.name}:{name}" for name in _tensors_not_finite(file)]
    return found


_NOT_FINITE = {"NaN", "Infinity", "-Infinity"}


def _printed(stdout: str) -> Iterator[tuple[str, str]]:
    try:
        yield from _json_leaves(json.loads(stdout), "stdout")
    except ValueError:
        for number, line in enumerate(stdout.splitlines()):
            yield f"stdout:{number}", line.rstrip()


def _leaves_of_file(file: Path) -> Iterator[tuple[str, str]]:
    reader = _READERS.get(file.suffix, _digest)
    try:
        yield from reader(file)
    except (OSError, ValueError, RuntimeError) as error:
        yield "", f"unreadable: {type(error).__name__}"


def _digest(file: Path) -> Iterator[tuple[str, str]]:
    yield "", hashlib.sha256(file.read_bytes()).hexdigest()


def _json(file: Path) -> Iterator[tuple[str, str]]:
    yield from _json_leaves(json.loads(file.read_text(encoding="utf-8")), "")


def _lines(file: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
        yield str(number), line


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """The library's reader, which takes no name that is not UTF-8."""
    with file.open("rb") as known, safe_open(f"/proc/self/fd/{known.fileno()}", framework="pt") as opened:
        yield opened


def _safetensors(file: Path) -> Iterator[tuple[str, str]]:
    with _opened(file) as opened:
        for key, value in (opened.metadata() or {}).items():
            try:
                yield from _json_leaves(json.loads(value), key)
            except ValueError:
                yield key, value
        for name in opened.keys():  # noqa: SIM118 - no mapping
            tensor = opened.get_tensor(name)
            data = tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            yield f"[{name}]", f"{tensor.dtype} {list(tensor.shape)} {hashlib.sha256(data).hexdigest()}"


def _tensors_not_finite(file: Path) -> Iterator[str]:
    with _opened(file) as opened:
        for name in opened.keys():  # noqa: SIM118 - no mapping
            tensor = opened.get_tensor(name)
            if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
                yield name


def _json_leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    if inner:
        for key, item in inner:
            yield from _json_leaves(item, f"{name}.{key}" if name else str(key))
    elif not _never_the_same(name):
        yield name, json.dumps(value)


def _never_the_same(name: str) -> bool:
    bare = name.removeprefix("stdout.")
    return any(fnmatchcase(bare, pattern) for pattern in NEVER_THE_SAME)


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, str]]]] = {
    ".safetensors": _safetensors,
    ".json": _json,
    ".md": _lines,
    ".html": _lines,
}
