"""The settings of a run of `collect`, as the manifest of its statistics records them."""

from typing import Annotated, Any

from pydantic import Field, ValidationError

from vq_calib.planning.calib_prompts import CalibPrompt, SplitRule
from vq_core.artifacts.stats import ActivationStats
from vq_core.errors import VqError
from vq_core.files.disk_record import DiskRecord
from vq_core.sampling.settings import Sampling


class PromptEntry(DiskRecord):
    """One prompt that was run; `index` is its place among all prompts of the run, its other parts included."""

    index: int
    sha256: str
    seed: int
    split: SplitRule


class RunSettings(DiskRecord):
    """The settings of one artifact.

    Attributes:
        prompts: that were run, by index.
        total_prompts: of the whole run.
        prompts_sha256: over all prompts of the whole run.
        parts: of the run that are here, as K/N; None where all are.
        tokens: rows to fit to of every input, as they were asked for; 0 where none were sampled.
        steps, height, width, num_frames, guidance_scale, guidance_scale_2, seed: see `Sampling`.
        buckets: of sigma.
        dtype, device, reduction, torch, diffusers: what it was computed in, on and with.
    """

    prompts: Annotated[list[PromptEntry], Field(min_length=1)]
    total_prompts: int
    prompts_sha256: str
    parts: list[str] | None
    tokens: int
    steps: int
    height: int
    width: int
    num_frames: int
    guidance_scale: float
    guidance_scale_2: float | None
    seed: int
    buckets: int
    dtype: str
    device: str
    reduction: str
    torch: str
    diffusers: str


def prompt_entries(prompts: list[CalibPrompt]) -> list[PromptEntry]:
    """The entries of `prompts`."""
    return [PromptEntry(index=it.index, sha256=it.sha256, seed=it.seed, split=it.split) for it in prompts]


def sampling_fields(sampling: Sampling) -> dict[str, Any]:
    """The fields that `sampling` gives; frames per second have no effect on statistics."""
    return {name: value for name, value in vars(sampling).items() if name != "fps"}


def settings_of(stats: ActivationStats) -> RunSettings:
    """The settings of an artifact that `collect` or `merge` wrote.

    Raises:
        VqError: they are not of this form.
    """
    try:
        return RunSettings.model_validate(stats.artifact.manifest.settings)
    except ValidationError as error:
        field = ".".join(map(str, error.errors()[0]["loc"]))
        raise VqError(
            f"{stats.artifact.path} was not written by `vq-calib collect` (its settings lack a valid `{field}`): "
            "collect again."
        ) from None
