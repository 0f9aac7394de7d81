"""How videos are sampled, and how that is settled between options, recipe and the model's own settings."""

from dataclasses import dataclass, replace

from vq_core.recipes.recipe import DEFAULTS, Defaults, SamplingSettings, resolve
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


@dataclass(frozen=True)
class SamplingOptions:
    """What was said of `Sampling` on the command line, None where nothing was."""

    steps: int | None = None
    height: int | None = None
    width: int | None = None
    num_frames: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    fps: int | None = None
    seed: int | None = None


def resolve_sampling(
    asked: SamplingOptions,
    said: SamplingSettings,
    defaults: Defaults,
    *,
    fps: int | None = None,
    seed: int | None = None,
) -> Sampling:
    """An option beats the recipe's section `said`, with its `fps` and `seed`, and that beats `defaults`.

    A guidance scale that is said alone is for both experts.
    """
    if asked.guidance_scale is not None or said.guidance_scale is not None:
        defaults = replace(defaults, guidance_scale_2=None)
    return Sampling(
        steps=resolve(asked.steps, said.steps, defaults.steps),
        height=resolve(asked.height, said.height, defaults.height),
        width=resolve(asked.width, said.width, defaults.width),
        num_frames=resolve(asked.num_frames, said.num_frames, defaults.num_frames),
        guidance_scale=resolve(asked.guidance_scale, said.guidance_scale, defaults.guidance_scale),
        guidance_scale_2=resolve(asked.guidance_scale_2, said.guidance_scale_2, defaults.guidance_scale_2),
        fps=resolve(asked.fps, fps, defaults.fps),
        seed=resolve(asked.seed, seed, defaults.seed),
    )
