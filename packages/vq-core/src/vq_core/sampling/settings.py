"""How videos are sampled."""

from dataclasses import dataclass, fields

from vq_core.errors import VqError
from vq_core.recipes.ranges import FrameCount, FrameRate, Guidance, Seed, Side, Steps, range_of, require_in_range
from vq_core.recipes.recipe import DEFAULTS
from vq_core.sampling.guidance import is_guided


@dataclass(frozen=True)
class Sampling:
    """How videos are sampled.

    Attributes:
        steps: denoising steps.
        height: pixels; for image-to-video `height` x `width` is the area, and the image gives the aspect.
        width: pixels.
        num_frames: 4k + 1.
        guidance_scale: of classifier-free guidance, see `vq_core.sampling.guidance`.
        guidance_scale_2: of Wan2.2's low-noise transformer; None means `guidance_scale`.
        fps: frames per second of the file.
        seed: of the first prompt; prompt i uses `seed` + i.

    Raises:
        VqError: a setting is out of its range.
    """

    steps: Steps = DEFAULTS.steps
    height: Side = DEFAULTS.height
    width: Side = DEFAULTS.width
    num_frames: FrameCount = DEFAULTS.num_frames
    guidance_scale: Guidance = DEFAULTS.guidance_scale
    guidance_scale_2: Guidance | None = DEFAULTS.guidance_scale_2
    fps: FrameRate = DEFAULTS.fps
    seed: Seed = DEFAULTS.seed

    def __post_init__(self) -> None:
        for field in fields(self):
            require_in_range(getattr(self, field.name), field.type, field.name)

    @property
    def guided(self) -> bool:
        """Does every step predict without the prompt too?"""
        return is_guided(self.guidance_scale)

    def seeds(self, prompts: int) -> range:
        """The seed of each of `prompts` prompts.

        Raises:
            VqError: the last one would be out of range.
        """
        allowed = range_of(Seed)
        assert allowed is not None
        if self.seed + prompts - 1 not in allowed:
            raise VqError(
                f"seed is {self.seed}, and the last of {prompts} prompts would have {self.seed + prompts - 1}: "
                f"give {allowed} less the number of prompts."
            )
        return range(self.seed, self.seed + prompts)
