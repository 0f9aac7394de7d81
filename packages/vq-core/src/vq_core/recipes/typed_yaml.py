"""YAML files checked against a pydantic model; every mistake becomes one sentence with file, key and cure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from reprlib import repr as short_repr
from typing import Annotated, TypeVar, get_args, get_origin

import yaml
from pydantic import AfterValidator, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from vq_core.errors import VqError
from vq_core.files.disk_record import DiskRecord
from vq_core.files.given_file import require_file
from vq_core.recipes.named_recipes import recipe_names
from vq_core.remote.location import Location


class Section(DiskRecord, allow_inf_nan=False):
    """One mapping of a file: unknown keys and wrong types are refused, a string is no number."""


Model = TypeVar("Model", bound=Section)


@dataclass(frozen=True)
class Unheeded:
    """Marks a key that is accepted and has no effect; nothing is said about it where its value is one of `silent`."""

    reason: str
    silent: tuple[object, ...] = (None, False)


def only(*allowed: object, otherwise: str) -> AfterValidator:
    """Refuse every value but `allowed`; the sentence about another one ends with `otherwise`."""

    def check(value: object) -> object:
        # By type too, because Python takes 8.0 for 8 and True for 1.
        if not any(type(value) is type(choice) and value == choice for choice in allowed):
            raise refusal(otherwise)
        return value

    return AfterValidator(check)


def refusal(sentence: str) -> PydanticCustomError:
    """What a validator raises; `sentence` goes on after "`key` in FILE is VALUE, "."""
    return PydanticCustomError("refused", "{sentence}", {"sentence": sentence})


def unheeded(section: Section, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(key, reason) of every key that the file gives and that has no effect, in the order of the fields."""
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, Section):
            yield from unheeded(value, f"{prefix}{name}.")
        elif name in section.model_fields_set:
            for marker in field.metadata:
                if isinstance(marker, Unheeded) and value not in marker.silent:
                    yield f"{prefix}{name}", marker.reason


def load_yaml(path: Path, what: str = "recipe") -> dict[str, object]:
    """The mapping in the YAML file `path`, a `what`: anchors and aliases work, no tag can run code.

    Raises:
        VqError: no such file, no file at all, not UTF-8 text, a syntax error, a key given twice, or no mapping.
    """
    if path.is_dir():
        raise VqError(f"The {what} {path} is a folder: give the YAML file in it.")
    try:
        require_file(path)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        names = f", or one of the names {', '.join(recipe_names())}" if what == "recipe" else ""
        raise VqError(f"There is no {what} {path}: give a YAML file{names}.") from None
    except UnicodeDecodeError as error:
        raise VqError(f"The {what} {path} is not UTF-8 text ({error}): give a YAML file.") from error
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        _refuse_duplicate_keys(node, path, set())
        document = None if node is None else loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise VqError(f"The {what} {path} is not valid YAML{line} ({error.problem}): mend it there.") from error
    except (yaml.YAMLError, ValueError) as error:
        raise VqError(f"The {what} {path} is not valid YAML ({' '.join(str(error).split())}): mend it.") from error
    if not isinstance(document, dict):
        raise VqError(f"The {what} {path} holds no settings: write `key: value` lines.")
    return document


def validated(model: type[Model], document: Mapping[str, object], path: Path, folder: Location | None = None) -> Model:
    """`document` as an instance of `model`; `folder` is handed to its validators as the context `folder`.

    Raises:
        VqError: the first mistake in the order of the model's fields, and how many more there are.
    """
    try:
        return model.model_validate(document, context={"folder": folder})
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
        more = f" (And mistakes beside this one: {len(mistakes) - 1}.)" if len(mistakes) > 1 else ""
        raise VqError(_sentence(_first(mistakes), model, path) + more) from error


def _first(mistakes: Sequence[ErrorDetails]) -> ErrorDetails:
    """The first mistake, except that a key is missing because it is misspelt: then the misspelt one."""
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
    """The keys that may stand where `location` ends."""
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
