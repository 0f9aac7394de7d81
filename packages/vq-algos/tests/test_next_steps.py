from pathlib import Path

import pytest

from vq_algos.next_steps import after_smoothing
from vq_algos.smoothing.smooth import SmoothSettings
from vq_core.recipes.recipe import QuantizeSettings, Recipe

WEIGHTS, STATS = Path("smoothed"), Path("stats")


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        (SmoothSettings(), "--scheme int8 -o qparams"),
        (SmoothSettings(scheme="fp8"), "--scheme fp8 -o qparams"),
        (SmoothSettings("auto", "fp8"), "--scheme fp8 --method auto --stats stats -o qparams"),
    ],
)
def test_without_a_recipe_options_say_it(settings: SmoothSettings, command: str) -> None:
    found = after_smoothing(settings, WEIGHTS, STATS, None, Recipe())
    assert found == f"vq-algos quantize --weights smoothed {command}"


def test_a_recipe_says_what_it_says() -> None:
    said = Recipe(scheme="int8", quantize=QuantizeSettings(method="gptq"), output=Path("out"))
    found = after_smoothing(SmoothSettings(), WEIGHTS, STATS, Path("r.yaml"), said)
    assert found == "vq-algos quantize --weights smoothed --recipe r.yaml --stats stats -o out/quant-params"
    found = after_smoothing(SmoothSettings(), WEIGHTS, Path("out/activation-stats"), Path("r.yaml"), said)
    assert found == "vq-algos quantize --weights smoothed --recipe r.yaml -o out/quant-params"


def test_without_statistics_none_are_given() -> None:
    found = after_smoothing(SmoothSettings("none"), WEIGHTS, None, None, Recipe())
    assert found == "vq-algos quantize --weights smoothed --scheme int8 -o qparams"
