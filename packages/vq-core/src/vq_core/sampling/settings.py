"""How videos are sampled."""

from dataclasses import dataclass

from vq_core.recipes.recipe import DEFAULTS


@dataclass(frozen=True)
class Sampling:
    """How videos are sampled.

    Attributes:
        steps: denoising steps.
        height: pixels; for image-to-video `height` x `width` is the area, and the image gives the aspect.
        width: pixels.
        num_frames: 4k + 1.
        guidance_scale: of classifier-free guidance; 1 or less leaves the negative prompt out.
        guidance_scale_2: of Wan2.2's low-noise transformer; None means `guidance_scale`.
        fps: frames per second of the file.
        seed: of the first prompt; prompt i uses `seed` + i.
    """

    steps: int = DEFAULTS.steps
    height: int = DEFAULTS.height
    width: int = DEFAULTS.width
    num_frames: int = DEFAULTS.num_frames
    guidance_scale: float = DEFAULTS.guidance_scale
    guidance_scale_2: float | None = None
    fps: int = DEFAULTS.fps
    seed: int = DEFAULTS.seed
