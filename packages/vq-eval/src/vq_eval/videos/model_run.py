"""A model that is run over prompts: what `fake-quant`, `trajectory` and `layers` have in common."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version

from pydantic import JsonValue

from vq_core.artifacts.components import model_header
from vq_core.artifacts.videos import settings_of
from vq_core.artifacts.weights import SmoothedWeights
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import Source, open_source
from vq_core.remote.location import Location
from vq_core.sampling.attention import AttentionKernel, other_kernels
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.prompts import Sample, read_samples
from vq_core.sampling.settings import Sampling
from vq_core.store.reader import require_same_model
from vq_core.store.writer import Header
from vq_eval.record import SampledPrompt


@dataclass(frozen=True)
class ModelRun:
    """A model and the prompts that it samples."""

    model: str
    source: Source
    pipeline: VideoPipeline
    samples: Sequence[Sample]
    sampling: Sampling

    @property
    def sampled_prompts(self) -> tuple[SampledPrompt, ...]:
        """The prompts with their seeds, as a report lists them."""
        return tuple(
            SampledPrompt(prompt=it.prompt, negative_prompt=it.negative_prompt, seed=self.seed(index))
            for index, it in enumerate(self.samples)
        )

    @cached_property
    def floor_kernels(self) -> tuple[AttentionKernel, ...]:
        """The attention kernels of the floor.

        Raises:
            VqError: this device has no second kernel.
        """
        config = next(iter(self.source.components.values())).config
        return other_kernels(self.pipeline.device, self.pipeline.dtype, int(str(config["attention_head_dim"])))

    def seed(self, index: int) -> int:
        """The seed of prompt `index`."""
        return self.sampling.seeds(len(self.samples))[index]

    def encode(self, pipeline: VideoPipeline, prompts: Sequence[int]) -> dict[int, Conditions]:
        """The conditions of `prompts`, by their index."""
        encoded = pipeline.encode([self.samples[index] for index in prompts], self.sampling)
        return dict(zip(prompts, encoded, strict=True))

    def header(self, kind: str, fmt: int, settings: dict[str, JsonValue], parents: dict[str, str]) -> Header:
        """Header of an artifact that this run writes; it records the sampling in front of `settings`."""
        return model_header(
            self.source,
            kind,
            fmt,
            tool=f"vq-eval {version('vq-eval')}",
            settings={**settings_of(self.samples, self.sampling, self.pipeline), **settings},
            parents=parents,
        )


def open_run(
    model: str,
    weights: Iterable[SmoothedWeights],
    prompts: Location,
    sampling: Sampling,
    loras: Sequence[LoraRequest],
    device: str | None,
) -> ModelRun:
    """Open `model`, which all `weights` must be made from, and read its prompts; no weight is loaded.

    Raises:
        VqError: weights are of another model, the prompts cannot be read, or the settings or the device do not fit.
    """
    source = open_source(model, loras)
    for smoothed in weights:
        require_same_model(smoothed.artifact, source.fingerprints, model)
    pipeline = VideoPipeline(model, device, source=source)
    pipeline.check(sampling)
    samples = read_samples(prompts, pipeline.inputs)
    sampling.seeds(len(samples))  # refused before anything runs
    return ModelRun(model, source, pipeline, samples, sampling)
