"""Who is heard first about how videos are sampled: the option, the recipe, the defaults."""

from dataclasses import fields, replace

import pytest

from vq_core.cli.options import SamplingOptions
from vq_core.cli.sampling import resolve_sampling
from vq_core.recipes.recipe import DEFAULTS, SamplingSettings
from vq_core.sampling.settings import Sampling

SAID = {"steps": 7, "height": 64, "width": 96, "num_frames": 9, "guidance_scale": 0.0, "guidance_scale_2": 2.0}


def test_where_nothing_is_said_the_defaults_hold() -> None:
    defaults = replace(DEFAULTS, steps=20, fps=8)
    found = resolve_sampling(SamplingOptions(), SamplingSettings(), defaults)
    assert found == replace(Sampling(), steps=20, fps=8)


def test_the_recipe_beats_the_defaults() -> None:
    found = resolve_sampling(SamplingOptions(), SamplingSettings(**SAID), DEFAULTS, fps=12, seed=0)
    assert found == Sampling(**SAID, fps=12, seed=0)


@pytest.mark.parametrize("name", [field.name for field in fields(SamplingOptions)])
def test_an_option_beats_the_recipe(name: str) -> None:
    recipe = SamplingSettings(**SAID)
    found = resolve_sampling(SamplingOptions(**{name: 33}), recipe, DEFAULTS, fps=12, seed=0)
    assert found == replace(Sampling(**SAID, fps=12, seed=0), **{name: 33})


def test_a_guidance_scale_that_stands_alone_is_for_both_experts() -> None:
    defaults = replace(DEFAULTS, guidance_scale=4.0, guidance_scale_2=3.0)
    nothing = SamplingSettings()
    assert resolve_sampling(SamplingOptions(), nothing, defaults).guidance_scale_2 == 3.0
    assert resolve_sampling(SamplingOptions(guidance_scale=1.0), nothing, defaults).guidance_scale_2 is None
    assert resolve_sampling(SamplingOptions(), SamplingSettings(guidance_scale=1.0), defaults).guidance_scale_2 is None
    low_noise = resolve_sampling(SamplingOptions(guidance_scale_2=2.0), nothing, defaults)
    assert (low_noise.guidance_scale, low_noise.guidance_scale_2) == (4.0, 2.0)


def test_an_option_can_be_anything_that_sampling_has_but_the_frame_rate_of_the_file() -> None:
    assert {field.name for field in fields(SamplingOptions)} == {field.name for field in fields(Sampling)} - {"fps"}
