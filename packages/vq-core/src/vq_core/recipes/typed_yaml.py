"""YAML files, validated by a pydantic model; each error is one sentence with file, key and remedy."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from reprlib import repr as short_repr
from typing import Annotated, TypeVar, get_args, get_origin

import yaml
from pydantic import AfterValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from vq_core.errors import VqError
from vq_core.files.disk_record import DiskRecord
from vq_core.files.given_file import read_given
from vq_core.recipes.named_recipes import recipe_names
from vq_core.remote.location import Location

MAX_BYTES, MAX_NODES, MAX_DIGITS = 1 << 20, 100_000, 64
"""Of a file, of values in it once its aliases are written out, and of a whole number."""


class Section(DiskRecord, allow_inf_nan=False):
    """One mapping of a file: unknown keys and wrong types are refused; a string is not taken for a number."""


Model = TypeVar("Model", bound=Section)


@dataclass(frozen=True)
class Unheeded:
    """Marks a key that is accepted and has no effect; the values `silent` are not reported."""

    reason: str
    silent: tuple[object, ...] = (None, False)


def only(*allowed: object, otherwise: str) -> AfterValidator:
    """Refuse every value but `allowed`, with a sentence that ends with `otherwise`."""

    def check(value: object) -> object:
        # Compares types too, because in Python 8.0 == 8 and True == 1.
        if not any(type(value) is type(choice) and value == choice for choice in allowed):
            raise refusal(otherwise)
        return value

    return AfterValidator(check)


def refusal(sentence: str) -> PydanticCustomError:
    """The error that a validator raises; `sentence` continues "`key` in FILE is VALUE, "."""
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


def unheeded(section: Section, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key, reason) of every key in the file that has no effect, in the order of the fields."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from unheeded(value, f"{prefix}{name}.")
        elif name in section.model_fields_set:
            for marker in field.metadata:
                if isinstance(marker, Unheeded) and value not in marker.silent:
                    yield f"{prefix}{name}", marker.reason


def load_yaml(path: Path, what: str = "recipe") -> dict[str, object]:
    """The mapping in the YAML file `path`, which is a `what`; anchors and aliases work, and no tag can run code.

    Raises:
        VqError: the file is missing, is no regular file or UTF-8 text, is too large, has a syntax error or a duplicate
            key, or holds no mapping.
    """
    if path.is_dir():
        raise VqError(f"The {what} {path} is a folder: give the YAML file in it.")
    try:
        text = read_given(path, MAX_BYTES).decode()
    except FileNotFoundError:
        names = f", or one of the names {', '.join(recipe_names())}" if what == "recipe" else ""
        raise VqError(f"There is no {what} {path}: give a YAML file{names}.") from None
    except UnicodeDecodeError as error:
        raise VqError(f"The {what} {path} is not UTF-8 text ({error}): give a YAML file.") from error
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _refuse_duplicate_keys(node, path, set())
        if node is not None and _nodes(node, {}) > MAX_NODES:
            raise VqError(f"The {what} {path} has aliases that make {MAX_NODES} values and more of it: write fewer.")
        document = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise VqError(f"The {what} {path} is not valid YAML{line} ({error.problem}): correct it there.") from error
    except RecursionError:
        raise VqError(f"The {what} {path} is nested too deeply, or in itself: write fewer levels.") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise VqError(f"The {what} {path} is not valid YAML ({' '.join(str(error).split())}): correct it.") from error
    if not isinstance(document, dict):
        raise VqError(f"The {what} {path} holds no settings: write `key: value` lines.")
    return document


def _nodes(node: yaml.Node, known: dict[int, int]) -> int:
    """Values that `node` has once every alias is written out."""
    if id(node) not in known:
        if node.tag.endswith(":int") and len(node.value) > MAX_DIGITS:  # Python cannot print what it made of it
            raise ValueError(f"a whole number has {len(node.value)} characters")
        inner = list(chain.from_iterable(node.value)) if isinstance(node, yaml.MappingNode) else node.value
        known[id(node)] = 1 + (0 if isinstance(inner, str) else sum(_nodes(value, known) for value in inner))
    return known[id(node)]


def validated(model: type[Model], document: Mapping[str, object], path: Path, folder: Location | None = None) -> Model:
    """Validate `document` as a `model`; its validators get `folder` as the context `folder`.

    Raises:
        VqError: states the first mistake, in the order of the model's fields, and the number of further ones.
    """
    try:
        return model.model_validate(document, context={"folder": folder})
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        first = _first(mistakes)
        told = 1 if first is mistakes[0] else 2  # a misspelt key, and that the right one is missing
        more = f" (Further mistakes: {len(mistakes) - told}.)" if len(mistakes) > told else ""
        raise VqError(_sentence(first, model, path) + more) from error


def _first(mistakes: Sequence[ErrorDetails]) -> ErrorDetails:
    """The first mistake; if a key is missing because it is misspelt, the misspelt key."""
    first = mistakes[0]
    if first["type"] != "missing":
        return first
    section = first["loc"][:-1]
    return next((it for it in mistakes if it["type"] == "extra_forbidden" and it["loc"][:-1] == section), first)


def _sentence(mistake: ErrorDetails, model: type[Section], path: Path) -> str:
    key, message, value = ".".join(map(str, mistake["loc"])), mistake["msg"], short_repr(mistake["input"])
    match mistake["type"]:
        case "extra_forbidden":
            hint = _hint(str(mistake["loc"][-1]), _keys_at(mistake["loc"], model))
            return f"`{key}` in {path} is not a known key{hint}"
        case "missing":
            return f"`{key}` is missing in {path}: add it."
        case "model_type":
            return f"`{key}` in {path} is {value}: it should be a section of `key: value` lines."
        case "path_type":
            return f"`{key}` in {path} is {value}: it should be a path."
        case "refused" if not key:
            return f"{path}: {message}"
        case "refused":
            return f"`{key}` in {path} is {value}, {message}"
    return f"`{key}` in {path} is {value}: {message.replace('Input', 'it').replace('tuple', 'list')}."


def _hint(key: str, known: Sequence[str]) -> str:
    close = get_close_matches(key, known, n=1)
    question = f" (did you mean `{close[0]}`?)" if close else ""
    return f"{question}; known here: {', '.join(known)}."


def _keys_at(location: tuple[int | str, ...], model: type[Section]) -> list[str]:
    """The keys that are known at `location`."""
    for part in location[:-1]:
        if isinstance(part, int):  # a place in a list
            continue
        model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: object) -> type[Section] | None:
    """The section in `Calib`, `Calib | None` or `Annotated[Calib | None, …]`."""
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    inner = get_args(annotation)[:1] if get_origin(annotation) is Annotated else get_args(annotation)
    return next((found for part in inner if (found := _model_in(part))), None)


def _refuse_duplicate_keys(node: yaml.Node | None, path: Path, seen: set[int]) -> None:
    # YAML lets the last of two equal keys win, which hides a slip; an aliased node is looked at once.
    if node is None or id(node) in seen:
        return
    seen.add(id(node))
    match node:
        case yaml.MappingNode():
            lines: dict[object, int] = {}
            for key, value in node.value:
                line = key.start_mark.line + 1
                if isinstance(key, yaml.ScalarNode):
                    if key.value in lines:
                        where = f"lines {lines[key.value]} and {line}"
                        raise VqError(f"`{key.value}` is given twice in {path}, {where}: keep one of them.")
                    lines[key.value] = line
                _refuse_duplicate_keys(value, path, seen)
        case yaml.SequenceNode():
            for value in node.value:
                _refuse_duplicate_keys(value, path, seen)
