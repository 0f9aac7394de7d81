"""Records that the schemas of the reports share."""

from typing import Literal, get_args

from vq_core.files.disk_record import DiskRecord

Branch = Literal["cond", "uncond"]
"""A call of the transformer with the prompt, or under guidance with the negative prompt."""

BRANCHES: tuple[Branch, ...] = get_args(Branch)
"""In the order of the calls."""


class Record(DiskRecord, strict=False, allow_inf_nan=False):
    """Refuses NaN and infinity too; a value of another type is converted where pydantic knows how."""


class ArtifactId(Record):
    """An artifact that a report is about: its path as given, and the digest of its manifest."""

    path: str
    digest: str


class SampledPrompt(Record):
    """A prompt that was sampled, and the seed of its noise."""

    prompt: str
    negative_prompt: str
    seed: int
