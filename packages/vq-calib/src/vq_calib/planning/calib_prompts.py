"""The prompts of a run: the digest of each, its noise seed, and whether it is fitted to or held out."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vq_core.errors import VqError
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling

HELD_OUT_EVERY = 5  # every fifth prompt is held out, if there are that many

SplitRule = Literal["fit", "held-out", "by-token"]


@dataclass(frozen=True)
class RunPart:
    """Part `number` of `of`, counted from 1: the prompts i with i mod `of` = `number` - 1."""

    number: int
    of: int

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"


@dataclass(frozen=True)
class CalibPrompt:
    """One prompt of a run.

    Attributes:
        index: its place among all prompts of the run, other parts included.
        sha256: the digest of its texts and files.
        seed: the seed of its noise.
        split: what its tokens are for; `by-token` divides them.
        tokens: how many tokens its video has in the transformer.
    """

    index: int
    sha256: str
    seed: int
    split: SplitRule
    tokens: int

    @property
    def digest_word(self) -> int:
        """The first 64 bits of `sha256`."""
        return int(self.sha256[:16], 16)


def parse_part(text: str) -> RunPart:
    """The part that `K/N` names.

    Raises:
        VqError: it is not two numbers with 1 ≤ K ≤ N.
    """
    match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise VqError(f"`--part {text}` is not K/N with K from 1 to N: write for instance 1/4.")
    return RunPart(int(match[1]), int(match[2]))


def indices_of(part: RunPart | None, total: int) -> list[int]:
    """Indices of the prompts of `part` among `total` prompts; all if it is None.

    Raises:
        VqError: there are fewer prompts than parts.
    """
    if part is None:
        return list(range(total))
    if total < part.of:
        raise VqError(f"{total} prompts do not fill {part.of} parts: divide the run into at most {total}.")
    return list(range(part.number - 1, total, part.of))


def split_of(index: int, total: int) -> SplitRule:
    """The split of prompt `index` of `total`.

    Every fifth prompt is held out; the last one of two to four; every fifth token on average of a single one.
    """
    if total == 1:
        return "by-token"
    held_out = index == total - 1 if total < HELD_OUT_EVERY else index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    return "held-out" if held_out else "fit"


def calib_prompts(
    samples: Sequence[Sample], indices: Sequence[int], pipeline: VideoPipeline, sampling: Sampling
) -> list[CalibPrompt]:
    """The prompts `indices` of `samples`.

    Raises:
        VqError: a file is missing, or cannot be decoded; a seed is out of range.
    """
    seeds = sampling.seeds(len(samples))
    return [
        CalibPrompt(
            index,
            digest_of(samples[index]),
            seeds[index],
            split_of(index, len(samples)),
            pipeline.video_tokens(samples[index], sampling),
        )
        for index in indices
    ]


def digest_of(sample: Sample) -> str:
    """SHA-256 over texts and files."""
    files = sample.digests()
    (image,) = files.pop("image", [None])
    words = [sample.prompt, sample.negative_prompt, image, *([files] if files else [])]
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()
