"""How videos are sampled."""

from dataclasses import dataclass

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
    """

    steps: int = DEFAULTS.steps
    height: int = DEFAULTS.height
    width: int = DEFAULTS.width
    num_frames: int = DEFAULTS.num_frames
    guidance_scale: float = DEFAULTS.guidance_scale
    guidance_scale_2: float | None = DEFAULTS.guidance_scale_2
    fps: int = DEFAULTS.fps
    seed: int = DEFAULTS.seed

    @property
    def guided(self) -> bool:
        """Does every step predict without the prompt too?"""
        return is_guided(self.guidance_scale)
