"""Classifier-free guidance, as diffusers' pipelines for Wan decide it.

The first scale decides for the whole video: above 1 every step predicts with the prompt and without it, else none does.
The second is the scale of the steps of Wan 2.2's low-noise expert.
"""

from vq_core.errors import VqError


def is_guided(guidance_scale: float) -> bool:
    """Do the steps of a video predict without the prompt too? `guidance_scale` is the first scale."""
    return guidance_scale > 1


def scales_of(
    guidance_scale: float, guidance_scale_2: float | None, *, transformers: int, where: object
) -> tuple[float, ...]:
    """The scale of each of a model's `transformers`; without a second, both experts have the first.

    Raises:
        VqError: there are two scales for one transformer, that of `where`.
    """
    if transformers == 1:
        if guidance_scale_2 is not None:
            raise VqError(f"guidance_scale_2 is for models with two transformers and {where} has one: leave it out.")
        return (guidance_scale,)
    return guidance_scale, guidance_scale if guidance_scale_2 is None else guidance_scale_2
