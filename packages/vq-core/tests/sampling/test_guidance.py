"""Guidance against what diffusers' own pipelines do."""

from types import SimpleNamespace

import pytest
from diffusers import WanImageToVideoPipeline, WanPipeline, WanVACEPipeline

from vq_core.errors import VqError
from vq_core.sampling.guidance import is_guided, scales_of


@pytest.mark.parametrize("scale", [-1.0, 0.0, 1.0, 1.001, 5.0])
@pytest.mark.parametrize("pipeline", [WanPipeline, WanImageToVideoPipeline, WanVACEPipeline])
def test_guided_where_diffusers_is(pipeline: type, scale: float) -> None:
    theirs = pipeline.do_classifier_free_guidance.fget(SimpleNamespace(_guidance_scale=scale))  # type: ignore[attr-defined]
    assert is_guided(scale) is theirs


def test_scales_of_each_transformer() -> None:
    assert scales_of(5.0, None, transformers=1, where="it") == (5.0,)
    assert scales_of(5.0, None, transformers=2, where="it") == (5.0, 5.0)
    assert scales_of(5.0, 0.0, transformers=2, where="it") == (5.0, 0.0)
    with pytest.raises(VqError, match="guidance_scale_2 is for models with two transformers and it has one: leave it"):
        scales_of(5.0, 5.0, transformers=1, where="it")
