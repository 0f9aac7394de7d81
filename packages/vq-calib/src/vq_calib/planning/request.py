"""From options, recipe and the model's own defaults to a request."""

from dataclasses import dataclass

from vq_calib.planning.calib_prompts import parse_part
from vq_calib.planning.run_plan import CollectRequest
from vq_core.cli.app import required
from vq_core.model.embedded import model_or_default
from vq_core.recipes.recipe import Recipe, loras_of, resolve
from vq_core.remote.location import Location
from vq_core.sampling.model_defaults import defaults_of
from vq_core.sampling.settings import SamplingOptions, resolve_sampling


@dataclass(frozen=True)
class CollectOptions:
    """What was said on the command line, None where nothing was."""

    model: str | None
    prompts: Location | None
    sampling: SamplingOptions
    tokens: int | None
    part: str | None
    device: str | None
    lora: list[str] | None = None


def request_of(said: CollectOptions, recipe: Recipe) -> CollectRequest:
    """The request; `recipe` fills in what the options leave open, and the model's defaults the rest.

    Raises:
        VqError: there is no such model; the part cannot be read; neither options nor recipe say the prompts.
    """
    calib = recipe.calib
    model = model_or_default(said.model or recipe.model)
    prompts = required(said.prompts or calib.prompts, "--prompts")
    sampling = resolve_sampling(said.sampling, calib, defaults_of(model), seed=recipe.calib_seed)
    part = None if said.part is None else parse_part(said.part)
    tokens = resolve(said.tokens, calib.tokens, None)
    return CollectRequest(model, prompts, sampling, tokens, part, said.device, loras_of(said.lora, recipe))
