"""Sampling settings from options, recipe and the model's own settings."""

from dataclasses import replace

from vq_core.cli.options import SamplingOptions
from vq_core.recipes.recipe import Defaults, SamplingSettings, resolve
from vq_core.sampling.settings import Sampling


def resolve_sampling(
    options: SamplingOptions,
    said: SamplingSettings,
    defaults: Defaults,
    *,
    fps: int | None = None,
    seed: int | None = None,
) -> Sampling:
    """Options take precedence over the recipe's section `said` and its `seed`, and these over `defaults`.

    `fps` takes precedence over `defaults` too. A guidance scale that is given alone holds for both experts.
    """
    if options.guidance_scale is not None or said.guidance_scale is not None:
        defaults = replace(defaults, guidance_scale_2=None)
    return Sampling(
        steps=resolve(options.steps, said.steps, defaults.steps),
        height=resolve(options.height, said.height, defaults.height),
        width=resolve(options.width, said.width, defaults.width),
        num_frames=resolve(options.num_frames, said.num_frames, defaults.num_frames),
        guidance_scale=resolve(options.guidance_scale, said.guidance_scale, defaults.guidance_scale),
        guidance_scale_2=resolve(options.guidance_scale_2, said.guidance_scale_2, defaults.guidance_scale_2),
        fps=resolve(fps, None, defaults.fps),
        seed=resolve(options.seed, seed, defaults.seed),
    )
