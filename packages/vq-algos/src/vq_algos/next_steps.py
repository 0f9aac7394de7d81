"""The command to run after a stage, for its summary."""

import shlex

from vq_algos.rounding.rounders import rounder_named
from vq_algos.smoothing.smooth import SmoothSettings
from vq_core.errors import VqError
from vq_core.recipes.recipe import DEFAULTS, Recipe
from vq_core.remote.location import Location

AUTO = "auto"


def after_smoothing(
    settings: SmoothSettings, weights: Location, stats: Location | None, recipe: Location | None, said: Recipe
) -> str:
    """The `vq-algos quantize` that fits how `weights` were smoothed; `said` is the content of the file `recipe`."""
    words: list[object] = ["vq-algos", "quantize", "--weights", weights]
    method = said.quantize.method or (AUTO if settings.method == AUTO else DEFAULTS.quantize_method)
    if recipe is not None:
        words += ["--recipe", recipe]
    if said.scheme is None:
        words += ["--scheme", settings.scheme or "int8"]
    if method != (said.quantize.method or DEFAULTS.quantize_method):
        words += ["--method", method]
    if stats is not None and stats != said.path_of("activation-stats") and _needs_tokens(method):
        words += ["--stats", stats]
    words += ["-o", said.path_of("quant-params") or "qparams"]
    return shlex.join(map(str, words))


def _needs_tokens(method: str) -> bool:
    try:
        return rounder_named(method).NEEDS_TOKENS
    except VqError:  # a mistake in what the recipe says of the next stage, which will be told there
        return False
