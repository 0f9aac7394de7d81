"""Videos of a model and of its quantized twins, from the same prompts and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import nn

from vq_core.artifacts.components import component_headers
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.weights import SmoothedWeights, open_weights
from vq_core.errors import VqError
from vq_core.ignored import IgnoreRule, ignored_linears
from vq_core.location import Location
from vq_core.lora_request import LoraRequest
from vq_core.pipeline import Conditions, VideoPipeline
from vq_core.progress import Advance, progress
from vq_core.prompts import Sample, read_samples
from vq_core.recipe import Variant
from vq_core.sampling import Sampling
from vq_core.source import Source, open_source
from vq_core.store import ArtifactWriter, Header, create_artifact, require_parent, require_same_model
from vq_core.video import write_video
from vq_eval.variants import VARIANTS, apply_fake_quant, apply_smoothed

KIND = "videos"
FORMAT = 1


@dataclass(frozen=True)
class Candidates:
    """Which variants to make, in the order of `VARIANTS`, of which artifacts, and what fake-quant leaves out.

    Raises:
        VqError: a variant whose artifacts are missing or do not belong together.
    """

    variants: tuple[Variant, ...]
    weights: SmoothedWeights | None = None
    qparams: QuantParams | None = None
    ignored: tuple[IgnoreRule, ...] = ()

    def __post_init__(self) -> None:
        if self.weights is None and set(self.variants) - {"full"}:
            raise VqError(
                "`--weights` is missing: smoothed and fake-quant videos are made from vq-algos smooth's output."
            )
        if self.qparams is None and "fake-quant" in self.variants:
            raise VqError("`--qparams` is missing: fake-quant videos are made from vq-algos quantize's output.")
        if self.weights is not None and self.qparams is not None:
            require_parent(self.qparams.artifact, self.weights.artifact)

    def apply(self, variant: Variant, transformers: Mapping[str, nn.Module], device: str) -> None:
        """Turn `transformers`, in full precision or a variant before it, into `variant`, in place."""
        for name, transformer in transformers.items():
            if variant == "smoothed" and self.weights is not None:
                apply_smoothed(transformer, self.weights.components[name], device)
            if variant == "fake-quant" and self.weights is not None and self.qparams is not None:
                weights = self.weights.components[name]
                ignored = ignored_linears(self.ignored, weights.topology)
                apply_fake_quant(transformer, weights, self.qparams, name, device, ignored)


@dataclass(frozen=True)
class Made:
    """The videos of one run, or of several that continued one another.

    Attributes:
        folders: where the videos of each variant are, by variant.
        prompts: how many videos each has.
        resumed_videos: how many of all an earlier, interrupted run had finished.
    """

    folders: dict[Variant, Location]
    prompts: int
    resumed_videos: int

    @property
    def next_steps(self) -> str:
        """The command that compares the last variant with the first; empty where there is one variant."""
        folders = list(self.folders.values())
        if len(folders) == 1:
            return ""
        return f"vq-eval compare --reference {folders[0]} --candidate {folders[-1]} -o report"

    def rows(self) -> dict[str, str]:
        """The lines of the summary."""
        resumed = f" ({self.resumed_videos} of all before)" if self.resumed_videos else ""
        return {"videos of each": f"{self.prompts}{resumed}"} | {name: str(path) for name, path in self.folders.items()}

    def to_json(self) -> dict[str, object]:
        """The same for machines."""
        return vars(self) | {"folders": {name: str(path) for name, path in self.folders.items()}}


def open_candidates(
    asked: Sequence[str] | None,
    weights: Location | None,
    qparams: Location | None,
    ignored: tuple[IgnoreRule, ...] = (),
) -> Candidates:
    """Open the artifacts of the variants that are `asked` for; without any, full precision and the last they allow.

    Raises:
        VqError: an unknown variant; see `Candidates`; an artifact is damaged.
    """
    chosen = asked or ("full", "fake-quant" if qparams else "smoothed" if weights else "full")
    for variant in chosen:
        if variant not in VARIANTS:
            raise VqError(f"`{variant}` is not a variant: choose from {', '.join(VARIANTS)}.")
    return Candidates(
        tuple(variant for variant in VARIANTS if variant in chosen),
        open_weights(weights) if weights and set(chosen) != {"full"} else None,
        open_qparams(qparams) if qparams and "fake-quant" in chosen else None,
        ignored,
    )


def make_videos(
    model: str,
    candidates: Candidates,
    prompts: Location,
    sampling: Sampling,
    output: Location,
    *,
    loras: Sequence[LoraRequest] = (),
    device: str | None = None,
    resume: bool = False,
) -> Made:
    """Write `output/VARIANT/000.mp4` …, to look at, and `.mkv`, lossless, to measure.

    Prompt i has seed `sampling.seed` + i. With `resume`, videos that are there already are kept.

    Raises:
        VqError: the artifacts are of another model, the prompts cannot be read, the settings or the device do not fit,
            `output` exists, or the model has no linear that is to be ignored.
    """
    source = open_source(model, loras)
    if candidates.weights is not None:
        require_same_model(candidates.weights.artifact, source.fingerprints, model)
    pipeline = VideoPipeline(model, device, source=source)
    pipeline.check(sampling)
    samples = read_samples(prompts, pipeline.inputs)
    with create_artifact(output, _header(source, candidates, samples, sampling, pipeline), resume=resume) as writer:
        pending = {
            variant: [index for index in range(len(samples)) if not writer.has(_lossless(variant, index))]
            for variant in candidates.variants
        }
        left = sum(map(len, pending.values()))
        if left:
            run = _Run(pipeline, candidates, samples, sampling, writer)
            with progress("sample", left * sampling.steps, "step") as advance:
                run.make(pending, advance)
    return Made(
        {variant: output / variant for variant in candidates.variants},
        prompts=len(samples),
        resumed_videos=len(candidates.variants) * len(samples) - left,
    )


@dataclass(frozen=True)
class _Run:
    """What the videos of one `make_videos` have in common."""

    pipeline: VideoPipeline
    candidates: Candidates
    samples: Sequence[Sample]
    sampling: Sampling
    writer: ArtifactWriter

    def make(self, pending: Mapping[Variant, Sequence[int]], advance: Advance) -> None:
        """Make the videos of the prompts that are `pending`, by variant, in the order of `VARIANTS`."""
        prompts = sorted({index for indices in pending.values() for index in indices})
        encoded = self.pipeline.encode([self.samples[index] for index in prompts], self.sampling)
        conditions = dict(zip(prompts, encoded, strict=True))
        for variant, indices in pending.items():
            if indices:
                self.candidates.apply(variant, self.pipeline.transformers, self.pipeline.device)
            for index in indices:
                self._make_one(variant, index, conditions[index], advance)

    def _make_one(self, variant: Variant, index: int, conditions: Conditions, advance: Advance) -> None:
        frames = self.pipeline.sample(conditions, self.sampling, self.sampling.seed + index, advance)
        lossless = self.writer.path(_lossless(variant, index))
        write_video(lossless.with_suffix(".mp4"), frames, self.sampling.fps)
        write_video(lossless, frames, self.sampling.fps)  # last: where it is, both are


def _lossless(variant: Variant, index: int) -> str:
    return f"{variant}/{index:03d}.mkv"


def _header(
    source: Source,
    candidates: Candidates,
    samples: Sequence[Sample],
    sampling: Sampling,
    pipeline: VideoPipeline,
) -> Header:
    artifacts = [part.artifact for part in (candidates.weights, candidates.qparams) if part is not None]
    return Header(
        kind=KIND,
        format=FORMAT,
        tool=f"vq-eval {version('vq-eval')}",
        family=source.family_name,
        model=source.name,
        components=component_headers(source),
        settings={
            **vars(sampling),
            "variants": list(candidates.variants),
            "ignored": {
                name: list(ignored_linears(candidates.ignored, component.topology))
                for name, component in source.components.items()
            },
            "prompts": [
                {"prompt": sample.prompt, "negative_prompt": sample.negative_prompt, **_digests(sample)}
                for sample in samples
            ],
            "dtype": str(pipeline.dtype).removeprefix("torch."),
            "device": torch.device(pipeline.device).type,
            "torch": torch.__version__,
            "diffusers": version("diffusers"),
        },
        parents={artifact.manifest.kind: artifact.digest for artifact in artifacts},
    )


def _digests(sample: Sample) -> dict[str, Any]:
    """SHA-256 of the files by key, a list for the reference images; the first frame's null where there is none."""
    single: dict[str, Any] = {"image": None}
    for key, digests in sample.digests().items():
        single[key] = list(digests) if key == "reference_images" else digests[0]
    return single
