from pathlib import Path

import pytest

from vq_algos.next_steps import after_smoothing
from vq_algos.smoothing.smooth import SmoothSettings
from vq_core.recipes.recipe import QuantizeSettings, Recipe

WEIGHTS, STATS = Path("smoothed"), Path("stats")


RECIPE, SAID = Path("r.yaml"), Recipe(scheme="int8", quantize=QuantizeSettings(method="gptq"), output=Path("out"))

WRONG_LATER = Recipe(quantize=QuantizeSettings(method="no such rounder"))


@pytest.mark.parametrize(
    ("settings", "stats", "recipe", "said", "options"),
    [
        (SmoothSettings(), STATS, None, Recipe(), "--scheme int8 -o qparams"),
        (SmoothSettings(scheme="fp8"), STATS, None, Recipe(), "--scheme fp8 -o qparams"),
        (SmoothSettings("auto", "fp8"), STATS, None, Recipe(), "--scheme fp8 --method auto --stats stats -o qparams"),
        (SmoothSettings("none"), None, None, Recipe(), "--scheme int8 -o qparams"),
        (SmoothSettings(), STATS, RECIPE, SAID, "--recipe r.yaml --stats stats -o out/quant-params"),
        (SmoothSettings(), STATS, RECIPE, WRONG_LATER, "--recipe r.yaml --scheme int8 -o qparams"),
        (SmoothSettings(), Path("out/activation-stats"), RECIPE, SAID, "--recipe r.yaml -o out/quant-params"),
    ],
)
def test_options_say_what_the_recipe_does_not(
    settings: SmoothSettings, stats: Path | None, recipe: Path | None, said: Recipe, options: str
) -> None:
    found = after_smoothing(settings, WEIGHTS, stats, recipe, said)
    assert found == f"vq-algos quantize --weights smoothed {options}"
