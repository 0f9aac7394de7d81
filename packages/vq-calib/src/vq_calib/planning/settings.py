"""The settings of a run of `collect`, as the manifest of its statistics records them."""

from typing import Annotated

from pydantic import Field, ValidationError

from vq_calib.planning.calib_prompts import SplitRule
from vq_core.artifacts.stats import ActivationStats
from vq_core.errors import VqError
from vq_core.files.disk_record import DiskRecord
from vq_core.recipes.ranges import FrameCount, Guidance, Seed, Side, Steps


class PromptEntry(DiskRecord):
    """One prompt that was run; `index` is its place among all prompts of the run, other parts included."""

    index: int
    sha256: str
    seed: Seed
    split: SplitRule


class RunSettings(DiskRecord):
    """The settings of one artifact.

    Attributes:
        prompts: the prompts that were run, by index.
        total_prompts: how many prompts the whole run has.
        prompts_sha256: hash of all prompts of the whole run.
        parts: which parts of the run are here, as K/N; None where all are.
        tokens: how many rows of every input were asked for to fit to; 0 where none were sampled.
        steps, height, width, num_frames, guidance_scale, guidance_scale_2, seed: see `Sampling`; frames per second are
            left out, because they have no effect on statistics.
        flow_shift, boundary_ratio: of the pipeline's scheduler and its two transformers; None where it has none.
        buckets: how many buckets sigma is divided into.
        dtype, device, reduction, torch, diffusers: the dtype, device, reduction and versions that were used.
    """

    prompts: Annotated[list[PromptEntry], Field(min_length=1)]
    total_prompts: int
    prompts_sha256: str
    parts: list[str] | None
    tokens: int
    steps: Steps
    height: Side
    width: Side
    num_frames: FrameCount
    guidance_scale: Guidance
    guidance_scale_2: Guidance | None
    seed: Seed
    flow_shift: float | None = None
    boundary_ratio: float | None = None
    buckets: int
    dtype: str
    device: str
    reduction: str
    torch: str
    diffusers: str


def settings_of(stats: ActivationStats) -> RunSettings:
    """The settings of an artifact that `collect` or `merge` wrote.

    Raises:
        VqError: they do not have this form.
    """
    try:
        return RunSettings.model_validate(stats.artifact.manifest.settings)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise VqError(
            f"{stats.artifact.path} was not written by `vq-calib collect` (its settings lack a valid `{field}`): "
            "collect again."
        ) from None
