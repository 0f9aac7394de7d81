"""The plan of a run of `collect`, from options and recipe to its prompts, calls and sampled tokens.

It is derived from the model's files, of which none is loaded.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from vq_calib.options import RunOptions
from vq_calib.planning.calib_prompts import CalibPrompt, RunPart, calib_prompts, indices_of, parse_part
from vq_calib.planning.token_plan import Tables, plan_tokens
from vq_core.artifacts.model_choice import chosen_model
from vq_core.cli.app import required
from vq_core.cli.sampling import resolve_sampling
from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import Source, open_source
from vq_core.recipes.recipe import Recipe, loras_of, resolve
from vq_core.remote.location import Location
from vq_core.sampling.model_defaults import defaults_of
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample, read_samples
from vq_core.sampling.schedule import Call, calls_of
from vq_core.sampling.settings import Sampling
from vq_core.topology import Topology

TOKENS_PER_CHANNEL, MAX_TOKENS = 4, 4096


@dataclass(frozen=True)
class CollectRequest:
    """What the user asks for; `tokens` None stands for the default and `part` None for all prompts.

    `note` says where the model comes from, if nobody chose it.
    """

    model: str
    prompts: Location
    sampling: Sampling
    tokens: int | None = None
    part: RunPart | None = None
    device: str | None = None
    loras: tuple[LoraRequest, ...] = ()
    note: str = ""


def request_of(options: RunOptions, recipe: Recipe) -> CollectRequest:
    """The request: options first, then `recipe`, then the model's defaults.

    Raises:
        VqError: there is no such model; `--part` cannot be read; neither options nor recipe name the prompts, or the
            recipe needs no statistics.
    """
    calib = recipe.calib
    chosen = chosen_model(options.model or recipe.model)
    if options.prompts is None and calib.prompts is None and recipe.needs_no_statistics:
        raise VqError(
            f"{options.recipe} asks for no smoothing and plain rounding, which need no statistics: go on with "
            f"`vq-algos smooth --recipe {options.recipe}`, or give --prompts to gather some all the same."
        )
    prompts = required(options.prompts or calib.prompts, "--prompts")
    sampling = resolve_sampling(options, calib, defaults_of(chosen.name), seed=recipe.calib_seed)
    part = None if options.part is None else parse_part(options.part)
    tokens = resolve(options.tokens, calib.tokens, None)
    loras = loras_of(options.lora, recipe)
    return CollectRequest(chosen.name, prompts, sampling, tokens, part, options.device, loras, chosen.note)


@dataclass(frozen=True)
class RunPlan:
    """What follows from a request.

    Attributes:
        request: what was asked for.
        source: the model.
        pipeline: the model's, with nothing loaded yet.
        samples: the prompts of the whole run, as they were read.
        prompts: the prompts of the part.
        calls: the calls of each component for one video.
        tokens: how many rows of every input are sampled to fit to.
        tables: the sampled tokens of each component; None where `tokens` is 0.
    """

    request: CollectRequest
    source: Source
    pipeline: VideoPipeline
    samples: list[Sample]
    prompts: list[CalibPrompt]
    calls: Mapping[str, tuple[Call, ...]]
    tokens: int
    tables: Mapping[str, Tables] | None

    @property
    def topologies(self) -> dict[str, Topology]:
        """By component."""
        return {name: entry.topology for name, entry in self.source.components.items()}


def plan_run(request: CollectRequest) -> RunPlan:
    """Plan a run.

    Raises:
        VqError: model, prompts, settings or device do not fit; a transformer is never called; the part is empty.
    """
    source = open_source(request.model, request.loras)
    pipeline = VideoPipeline(request.model, request.device, source=source)
    pipeline.check(request.sampling)
    samples = read_samples(request.prompts, pipeline.inputs)
    prompts = calib_prompts(samples, indices_of(request.part, len(samples)), pipeline, request.sampling)
    schedule = pipeline.schedule(request.sampling)
    calls = {name: calls_of(schedule, name, guided=request.sampling.guided) for name in source.components}
    topologies = [entry.topology for entry in source.components.values()]
    tokens = default_tokens(topologies) if request.tokens is None else request.tokens
    tables = {name: plan_tokens(prompts, of, tokens) for name, of in calls.items()} if tokens else None
    return RunPlan(request, source, pipeline, samples, prompts, calls, tokens, tables)


def default_tokens(topologies: list[Topology]) -> int:
    """Four rows to a channel of the model's width, at most 4096: more no longer pays at eight bits."""
    width = max(topology.groups[0].in_features for topology in topologies)
    return min(TOKENS_PER_CHANNEL * width, MAX_TOKENS)
