"""Prompts in LLMC's format: `samples.json`, a list of {"image", "prompt", "negative_prompt"}, images beside it."""

import json
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import Any

from vq_core.errors import VqError
from vq_core.images import open_image
from vq_core.location import Location, Uri
from vq_core.remote import local_copy

SAMPLES_FILE = "samples.json"
KEYS = ("prompt", "negative_prompt", "image")


@dataclass(frozen=True)
class Sample:
    """What one video is made from; `image` is None for text-to-video."""

    prompt: str
    negative_prompt: str = ""
    image: Path | None = None


def read_samples(folder_or_json: Location, needs_image: bool) -> list[Sample]:
    """Read a folder that holds `samples.json`, or the JSON file itself; image paths are relative to it.

    Every image is decoded once here, before minutes are spent on the first prompts. Without `needs_image` the
    entries' images are left alone, so that one set of prompts serves both tasks.

    Raises:
        VqError: the file is missing, is not JSON or not a list of samples, or an image is missing or is not one.
    """
    path = local_copy(folder_or_json)
    if path.is_dir():
        path = path / SAMPLES_FILE
    elif needs_image and isinstance(folder_or_json, Uri):  # only the file was copied, and the images lie beside it
        images = [escape(str(entry.get("image"))) for entry in _read_list(path) if isinstance(entry, dict)]
        local_copy(folder_or_json.parent, only=images)
    return [
        _sample(entry, f"Entry {index} of {path}", path.parent, needs_image)
        for index, entry in enumerate(_read_list(path))
    ]


def _read_list(path: Path) -> list[Any]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise VqError(f"{path} is missing: give a folder that holds {SAMPLES_FILE}, or such a file.") from None
    except json.JSONDecodeError as error:
        raise VqError(f"{path} is not JSON (line {error.lineno}: {error.msg}): correct that line.") from None
    except UnicodeDecodeError as error:
        raise VqError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}): save it as UTF-8.") from None
    if not isinstance(entries, list):
        raise VqError(f'{path} is not a list: write [{{"prompt": ..., "negative_prompt": ..., "image": ...}}, ...].')
    if not entries:
        raise VqError(f"{path} is an empty list: give at least one prompt.")
    return entries


def _sample(entry: Any, where: str, folder: Path, needs_image: bool) -> Sample:
    if not isinstance(entry, dict):
        raise VqError(f"{where} is not an object with a `prompt`: write it as one.")
    if unknown := sorted(set(entry) - set(KEYS)):
        raise VqError(f"{where} has the unknown key `{unknown[0]}`: the keys are {', '.join(KEYS)}.")
    texts = {key: _text(entry, key, where) for key in KEYS}
    if not texts["prompt"].strip():
        raise VqError(f"{where} has no `prompt`: write one.")
    if not needs_image:
        return Sample(texts["prompt"], texts["negative_prompt"])
    if not texts["image"]:
        raise VqError(f"{where} has no `image`, and an image-to-video model needs one: add its path.")
    image = folder / texts["image"]
    open_image(image)
    return Sample(texts["prompt"], texts["negative_prompt"], image)


def _text(entry: dict[str, Any], key: str, where: str) -> str:
    value = entry.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise VqError(f"{where} has a `{key}` that is {type(value).__name__}, not text: put it in quotes.")
    return value
