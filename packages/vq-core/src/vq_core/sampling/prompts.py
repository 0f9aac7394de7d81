"""Prompts in LLMC's format: `samples.json`, a list of {"image", "prompt", "negative_prompt"}, images beside it.

Besides LLMC's keys an entry may have those of the other Wan models: `last_image` (first and last frame), and for VACE
`reference_images` (one path or a list), `video` and `mask` (white: to be made; a video, or one image for all frames).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path
from textwrap import shorten
from typing import Any

from vq_core.errors import VqError
from vq_core.files.given_file import is_inside
from vq_core.files.json_file import read_json_value
from vq_core.media.video import FORMATS
from vq_core.recipes.named_prompts import resolve_prompts
from vq_core.remote.location import Location, Uri
from vq_core.remote.transfer import local_copy
from vq_core.sampling.opened_files import OpenedFile, open_picture, open_video

SAMPLES_FILE = "samples.json"
TEXTS = ("prompt", "negative_prompt")
FILES = ("image", "last_image", "reference_images", "video", "mask")
KEPT_BYTES = 2**28  # of decoded pictures: about 40 of 1920x1080


@dataclass(frozen=True)
class ModelInputs:
    """Which files a model reads besides the texts, as the keys of a sample that it needs and that it may have."""

    required: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()

    def __contains__(self, key: str) -> bool:
        return key in self.required or key in self.optional


TEXT_ONLY = ModelInputs()
FIRST_FRAME = ModelInputs(required=("image",))


@dataclass(frozen=True)
class Sample:
    """What one video is made from; a file is None where there is none.

    Its files are opened once, when they are first needed: a picture, its size and its digest are taken from one
    decoding of the same bytes. Pictures are kept in full size, which reference images need, up to a budget: the
    photographs of a hundred prompts would take gigabytes. A video, and a picture beyond the budget, is decoded again
    when it is needed, and refused if its file has changed.

    Attributes:
        prompt: what the video shows.
        negative_prompt: what it should not show.
        image: its first frame.
        last_image: its last frame.
        reference_images: what should appear in it, for VACE.
        video: what it is made over, for VACE.
        mask: what of `video` is to be made anew (white), a video or an image; everything where there is none.
        number: its place in a set of prompts, from 0; None where it is alone.
    """

    prompt: str
    negative_prompt: str = ""
    image: Path | None = None
    last_image: Path | None = None
    reference_images: tuple[Path, ...] = ()
    video: Path | None = None
    mask: Path | None = None
    number: int | None = field(default=None, compare=False)
    _opened: dict[str, list[OpenedFile]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def name(self) -> str:
        """What a sentence calls it, such as "prompt 2 ('a kite')"."""
        text = shorten(self.prompt, 60, placeholder="…")
        return f"the prompt {text!r}" if self.number is None else f"prompt {self.number} ({text!r})"

    def files(self) -> Iterator[tuple[str, Path]]:
        """Every file with its key, in the order of `FILES`."""
        for key in FILES:
            value = getattr(self, key)
            for path in value if isinstance(value, tuple) else (value,):
                if path is not None:
                    yield key, path

    def opened(self, budget: int = KEPT_BYTES) -> dict[str, list[OpenedFile]]:
        """Every file by key, decoded at the first call; pictures are kept up to `budget` bytes in all.

        Raises:
            VqError: a file is missing, or is no image or video.
        """
        if not self._opened:
            opened: dict[str, list[OpenedFile]] = {}
            for key, path in self.files():
                as_video = key == "video" or (key == "mask" and is_video(path))
                file = open_video(path) if as_video else open_picture(path, budget)
                budget -= file.nbytes
                opened.setdefault(key, []).append(file)
            self._opened.update(opened)
        return self._opened

    def digests(self) -> dict[str, list[str]]:
        """SHA-256 of the files by key, of the bytes that were decoded.

        Raises:
            VqError: see `opened`.
        """
        return {key: [file.digest for file in files] for key, files in self.opened().items()}

    def require(self, inputs: ModelInputs, where: str) -> None:
        """Refuse a sample that lacks a file which the model needs; `where` begins the sentence.

        Raises:
            VqError: names the key.
        """
        given = {key for key, _ in self.files()}
        for key in inputs.required:
            if key not in given:
                what = "starts from an image" if key == "image" else "ends at a second one"
                raise VqError(f"{where} has no `{key}`, and the model {what}: add its path.")
        if "mask" in given and "video" not in given:
            raise VqError(f"{where} has a `mask`, which requires a `video`: add one.")


def is_video(path: Path) -> bool:
    """Does the name of `path` say that it is a video?"""
    return path.suffix.lower() in FORMATS


def read_samples(folder_or_json: Location, inputs: ModelInputs) -> list[Sample]:
    """Read a folder that holds `samples.json`, the JSON file itself, or `builtin:NAME`; paths in it are relative to it.

    Every file is opened here, before minutes are spent on the first prompts. Files that are not among `inputs` are
    ignored, so that one set of prompts serves several tasks.

    Raises:
        VqError: there is no such built-in set, the file is missing, is not JSON or not a list of samples, or an image
            is missing or is not one.
    """
    path = local_copy(resolve_prompts(folder_or_json))
    if path.is_dir():
        path = path / SAMPLES_FILE
    elif isinstance(folder_or_json, Uri):  # only this file was copied, and those that it names lie beside it
        local_copy(folder_or_json.parent, only=list(_files_named(_read_list(path), inputs)))
    samples = []
    budget = KEPT_BYTES
    for index, entry in enumerate(_read_list(path)):
        sample = replace(_sample(entry, f"Entry {index} of {path}", path.parent, inputs), number=index)
        budget -= sum(file.nbytes for files in sample.opened(budget).values() for file in files)
        samples.append(sample)
    return samples


def _read_list(path: Path) -> list[Any]:
    entries = read_json_value(
        path, missing=f"give a folder that holds {SAMPLES_FILE}, or such a file", damaged="correct it"
    )
    if not isinstance(entries, list):
        raise VqError(f'{path} is not a list: write [{{"prompt": ..., "negative_prompt": ..., "image": ...}}, ...].')
    if not entries:
        raise VqError(f"{path} is an empty list: give at least one prompt.")
    return entries


def _sample(entry: Any, where: str, folder: Path, inputs: ModelInputs) -> Sample:
    if not isinstance(entry, dict):
        raise VqError(f"{where} is not an object with a `prompt`: write it as one.")
    if unknown := sorted(set(entry) - set(TEXTS) - set(FILES)):
        raise VqError(f"{where} has the unknown key `{unknown[0]}`: the keys are {', '.join((*TEXTS, *FILES))}.")
    prompt, negative_prompt = (_text(entry.get(key), key, where) for key in TEXTS)
    if not prompt.strip():
        raise VqError(f"{where} has no `prompt`: write one.")
    files = {key: _paths(entry.get(key), key, where, folder) for key in FILES if key in inputs}
    references = files.pop("reference_images", ())
    single: dict[str, Any] = {key: paths[0] for key, paths in files.items() if paths}
    sample = Sample(prompt, negative_prompt, reference_images=references, **single)
    sample.require(inputs, where)
    return sample


def _files_named(entries: list[Any], inputs: ModelInputs) -> Iterator[str]:
    """Patterns of the files that the entries name under the keys of `inputs`; what is malformed is refused later."""
    for entry in entries:
        for key in FILES:
            value = entry.get(key) if isinstance(entry, dict) and key in inputs else None
            yield from (
                escape(name) for name in (value if isinstance(value, list) else [value]) if isinstance(name, str)
            )


def _paths(value: Any, key: str, where: str, folder: Path) -> tuple[Path, ...]:
    """The paths under a key: one, or for reference images a list of them; none for nothing."""
    values = value if isinstance(value, list) and key == "reference_images" else [value]
    names = [text for text in (_text(it, key, where) for it in values) if text]
    for name in names:
        if not (is_inside(name) or Path(name).is_absolute()):
            raise VqError(f"{where} names {name} as `{key}`, which leads out of the folder: give an absolute path.")
    return tuple(folder / name for name in names)


def _text(value: Any, key: str, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise VqError(f"{where} has a `{key}` that is {type(value).__name__}, not text: put it in quotes.")
    return value
