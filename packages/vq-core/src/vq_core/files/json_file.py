"""Reading JSON that somebody else may have written: what is unclear in it is refused in one sentence."""

import json
import math
import re
from pathlib import Path
from typing import Any

from vq_core.errors import VqError
from vq_core.files.given_file import read_given

MAX_DEPTH = 100
# Most files have none, and json calls nothing for each of theirs.
_UNUSUAL_NUMBER = re.compile(r"-0|\d{19}|[eE]\+?\d{3}")
_TOO_DEEP = f"it is nested deeper than {MAX_DEPTH} levels"


def read_json(
    path: Path, *, missing: str = "give a whole model folder", damaged: str = "get it again"
) -> dict[str, Any]:
    """The JSON object in `path`; `missing` and `damaged` say what to do where there is none.

    Raises:
        VqError: the file is missing, or holds something else; see `read_json_value`.
    """
    content = read_json_value(path, missing=missing, damaged=damaged)
    if not isinstance(content, dict):
        raise VqError(f"{path} is not a JSON object: {damaged}.")
    return content


def read_json_value(path: Path, *, missing: str, damaged: str) -> Any:
    """What the JSON file `path` holds, with or without a byte order mark.

    Raises:
        VqError: the file is missing, is no file, is refused by `parse_json`, or is nested deeper than `MAX_DEPTH`.
    """
    try:
        content = parse_json(read_given(path))
        _require_shallow(content, MAX_DEPTH)
        return content
    except (FileNotFoundError, NotADirectoryError):  # not a directory: the folder that was given is a file
        raise VqError(f"{path} is missing: {missing}.") from None
    except ValueError as error:
        raise VqError(f"{path} is not JSON ({error}): {damaged}.") from None


def parse_json(content: bytes) -> Any:
    """The value of JSON in UTF-8.

    Raises:
        ValueError: it is not JSON, as NaN is not; a key is there twice; a string holds half of a surrogate pair; an
            integer does not fit 64 bits, or a real number a float; it is nested too deeply to be read at all.
    """
    text = content.decode("utf-8-sig")
    try:
        integer, real = (_integer, _real) if _UNUSUAL_NUMBER.search(text) else (int, float)
        value = json.loads(
            text, object_pairs_hook=_object, parse_int=integer, parse_float=real, parse_constant=_constant
        )
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    if "\\u" in text and _has_surrogate(value):
        raise ValueError("a string holds half of a surrogate pair")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"`{next(name for name in names if names.count(name) > 1)}` is there twice")
    return made


def _integer(text: str) -> float:
    if text == "-0":  # a float in every other parser
        return -0.0
    if len(text) > 20 or not -(1 << 63) <= int(text) < 1 << 64:
        raise ValueError(f"the integer {text if len(text) <= 20 else f'{text[:20]}…'} does not fit 64 bits")
    return int(text)


def _real(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"the number {text if len(text) <= 20 else f'{text[:20]}…'} is too large")
    return value


def _constant(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _require_shallow(value: Any, levels: int) -> None:
    if not isinstance(value, dict | list):
        return
    if not levels:
        raise ValueError(_TOO_DEEP)
    for inner in value.values() if isinstance(value, dict) else value:
        _require_shallow(inner, levels - 1)


def _has_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False
