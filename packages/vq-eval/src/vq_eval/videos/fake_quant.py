"""Videos of a model and of its quantized twins, from the same prompts and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue
from torch import nn

from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.videos import FORMAT, KIND, Summary, create_videos
from vq_core.artifacts.weights import SmoothedWeights, open_weights
from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest
from vq_core.recipes.ignored import IgnoreRule, ignored_linears
from vq_core.recipes.recipe import Variant
from vq_core.remote.location import Location
from vq_core.runtime.process import ALONE, Process
from vq_core.runtime.progress import progress
from vq_core.sampling.attention import AttentionKernel
from vq_core.sampling.settings import Sampling
from vq_core.store.reader import require_parent
from vq_core.store.writer import Header
from vq_eval.videos.model_run import ModelRun, open_run
from vq_eval.videos.reference_cache import ReferenceCache
from vq_eval.videos.run import VideosRun
from vq_eval.videos.variants import VARIANTS, apply_fake_quant, apply_smoothed


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
        if self.weights is None and set(self.variants) & {"smoothed", "fake-quant"}:
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
        summaries: time and attention kernels of each variant.
    """

    folders: dict[Variant, Location]
    prompts: int
    resumed_videos: int
    summaries: dict[str, Summary]

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
        times = {f"{name} videos": summary.text() for name, summary in self.summaries.items()}
        folders = {name: str(path) for name, path in self.folders.items()}
        return {"videos of each": f"{self.prompts}{resumed}"} | times | folders

    def to_json(self) -> dict[str, object]:
        """The same for machines."""
        return vars(self) | {
            "folders": {name: str(path) for name, path in self.folders.items()},
            "summaries": {name: summary.to_json() for name, summary in self.summaries.items()},
        }


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
        open_weights(weights) if weights and {"smoothed", "fake-quant"} & set(chosen) else None,
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
    cache: ReferenceCache | None = None,
    process: Process = ALONE,
) -> Made | None:
    """Write `output/VARIANT/000.mp4` …, to look at, and `.mkv`, lossless, to measure.

    Prompt i has seed `sampling.seed` + i. With `resume`, videos that exist are kept. Videos of the model itself are
    taken from `cache` and kept there. Several processes share the prompts.

    Returns:
        What was made; None in every process but the first.

    Raises:
        VqError: see `open_run`; `output` exists, a rule for linears to ignore matches none, the variant `floor` has no
            second kernel here, or another process has failed.
    """
    weights = [] if candidates.weights is None else [candidates.weights]
    run = open_run(model, weights, prompts, sampling, loras, device)
    floor = run.floor_kernels if "floor" in candidates.variants else ()
    header = _header(run, candidates, floor)
    count = len(run.samples)
    with create_videos(output, header, candidates.variants, count, process=process, resume=resume) as videos:
        videos_run = VideosRun(run, candidates.variants, candidates.apply, videos, floor)
        if cache is not None:
            videos_run.share(cache)
        left = videos_run.left()
        if left:
            with progress("sample", left * sampling.steps, "step") as advance:
                videos_run.make(advance)
    if not process.is_first:
        return None
    return Made(
        {variant: output / variant for variant in candidates.variants},
        prompts=count,
        resumed_videos=videos.resumed,
        summaries=videos.noted,
    )


def _header(run: ModelRun, candidates: Candidates, floor: tuple[AttentionKernel, ...]) -> Header:
    artifacts = [part.artifact for part in (candidates.weights, candidates.qparams) if part is not None]
    settings: dict[str, JsonValue] = {
        "variants": list(candidates.variants),
        "ignored": {
            name: list(ignored_linears(candidates.ignored, component.topology))
            for name, component in run.source.components.items()
        },
        "floor_attention": list(floor),
    }
    return run.header(KIND, FORMAT, settings, {it.manifest.kind: it.digest for it in artifacts})
