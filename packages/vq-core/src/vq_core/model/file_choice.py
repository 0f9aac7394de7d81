"""Which of a folder's weight files belong together: shards, variants of one model, and the two experts of a pair."""

import logging
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from vq_core.errors import VqError
from vq_core.files.tensor_file import TensorInfo, read_header
from vq_core.files.tensor_folder import stem_of

logger = logging.getLogger(__name__)

Files = tuple[Path, ...]
"""One file, or all shards that are there."""
EXPERTS = {"high": "transformer", "low": "transformer_2"}
"""The component, by what the name of an expert's file says of its noise."""
_NOISE = re.compile(r"(?<![a-z])(high|low)(?=[-_. ]?noise|[^a-z]|$)", re.IGNORECASE)
_PRECISION = re.compile(
    r"(?<![a-z0-9])(fp32|f32|float32|fp16|f16|float16|half|bf16|bfloat16|fp8|int8|e4m3|e4m3fn|e5m2|scaled)(?![a-z0-9])",
    re.IGNORECASE,
)


def without_variants(files: Iterable[Path]) -> list[Files]:
    """The sets of shards among `files`; of those that differ only in the precision that their names say, the fullest.

    A warning says which was taken and which were not.

    Raises:
        VqError: a file is damaged, or two variants are equally precise.
    """
    sets: dict[str, list[Path]] = {}
    for path in files:
        sets.setdefault(stem_of(path), []).append(path)
    variants: dict[str, list[Files]] = {}
    for stem, shards in sets.items():
        variants.setdefault(re.sub(r"[^a-z0-9]+", " ", _PRECISION.sub("", stem).lower()).strip(), []).append(
            tuple(shards)
        )
    return [found for group in variants.values() for found in _fullest(group)]


def expert_files(sets: Sequence[Files]) -> dict[str, Files]:
    """The files of the high-noise and of the low-noise expert, by component, if `sets` are two whose names say so."""
    by_noise = {noise: files for files in sets for noise in EXPERTS if _noise_of(files) == {noise}}
    pair = len(sets) == len(by_noise) == len(EXPERTS)
    return {component: by_noise[noise] for noise, component in EXPERTS.items()} if pair else {}


def _noise_of(files: Files) -> set[str]:
    return {found.lower() for found in _NOISE.findall(stem_of(files[0]))}


def _fullest(group: list[Files]) -> list[Files]:
    if len(group) == 1 or any(path.suffix != ".safetensors" for files in group for path in files):
        return group
    headers = {files: _headers(files) for files in group}
    names: set[str] = set()
    for header in headers.values():
        if not names.isdisjoint(header) or not names:
            names |= header.keys()
        else:
            return group  # parts of one model
    sizes = {files: sum(info.end - info.begin for info in header.values()) for files, header in headers.items()}
    # An expert's shard may be missing; that is said when the set is opened.
    first, second = sorted(group, key=lambda files: (-sizes[files], len(stem_of(files[0]))))[:2]
    if sizes[first] == sizes[second] and _PRECISION.search(stem_of(first[0])):
        raise VqError(
            f"{first[0].name} and {second[0].name} in {first[0].parent} are two variants of one model: "
            "give the file that you mean."
        )
    left = ", ".join(files[0].name for files in group if files != first)
    logger.warning(
        "%s: %s is read, the most precise of several variants, and not %s.", first[0].parent, first[0].name, left
    )
    return [first]


def _headers(files: Files) -> dict[str, TensorInfo]:
    return {name: info for path in files for name, info in read_header(path).items()}
