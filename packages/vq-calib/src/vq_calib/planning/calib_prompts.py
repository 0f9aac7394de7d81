"""The prompts of a run: what identifies each, its noise seed, and whether it is fitted to or held out."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vq_core.errors import VqError
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling

HELD_OUT_EVERY = 5  # prompts, where there are as many

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
        index: among all prompts of the run, its other parts included.
        sha256: of texts and files.
        seed: of the noise.
        split: what its tokens are for; `by-token` divides them.
        tokens: of its video, in the transformer.
    """

    index: int
    sha256: str
    seed: int
    split: SplitRule
    tokens: int

    @property
    def digest_word(self) -> int:
        """The first 64 bits of the digest."""
        return int(self.sha256[:16], 16)


def parse_part(text: str) -> RunPart:
    """The part that `K/N` names.

    Raises:
        VqError: it is not two numbers with 1 ≤ K ≤ N.
    """
    number, slash, of = text.partition("/")
    if not (slash and number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
        raise VqError(f"`--part {text}` is not K/N with K from 1 to N: write for instance 1/4.")
    return RunPart(int(number), int(of))


def indices_of(part: RunPart | None, total: int) -> list[int]:
    """Indices of the prompts of `part` among `total`; of all where it is None.

    Raises:
        VqError: there are fewer prompts than parts.
    """
    if part is None:
        return list(range(total))
    if total < part.of:
        raise VqError(f"{total} prompts do not fill {part.of} parts: divide the run into at most {total}.")
    return list(range(part.number - 1, total, part.of))


def split_of(index: int, total: int) -> SplitRule:
    """Every fifth prompt is held out; of two to four the last one; of a single one, one token in five."""
    if total == 1:
        return "by-token"
    held_out = index == total - 1 if total < HELD_OUT_EVERY else index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
    return "held-out" if held_out else "fit"


def calib_prompts(
    samples: Sequence[Sample], indices: Sequence[int], pipeline: VideoPipeline, sampling: Sampling
) -> list[CalibPrompt]:
    """The prompts with `indices` among `samples`.

    Raises:
        VqError: a file is missing, or cannot be decoded.
    """
    return [
        CalibPrompt(
            index,
            digest_of(samples[index]),
            sampling.seed + index,
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
