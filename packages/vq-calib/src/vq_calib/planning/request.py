"""Make a request from options, a recipe and the model's own defaults."""

from vq_calib.options import RunOptions
from vq_calib.planning.calib_prompts import parse_part
from vq_calib.planning.run_plan import CollectRequest
from vq_core.cli.app import required
from vq_core.cli.sampling import resolve_sampling
from vq_core.model.embedded import model_or_default
from vq_core.recipes.recipe import Recipe, loras_of, resolve
from vq_core.sampling.model_defaults import defaults_of


def request_of(options: RunOptions, recipe: Recipe) -> CollectRequest:
    """The request: options first, then `recipe`, then the model's defaults.

    Raises:
        VqError: there is no such model; `--part` cannot be read; neither options nor recipe name the prompts.
    """
    calib = recipe.calib
    model = model_or_default(options.model or recipe.model)
    prompts = required(options.prompts or calib.prompts, "--prompts")
    sampling = resolve_sampling(options, calib, defaults_of(model), seed=recipe.calib_seed)
    part = None if options.part is None else parse_part(options.part)
    tokens = resolve(options.tokens, calib.tokens, None)
    return CollectRequest(model, prompts, sampling, tokens, part, options.device, loras_of(options.lora, recipe))
