"""Videos of a model and of its quantized twins, from the same prompts and seeds."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vq_core import __version__
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.weights import SmoothedWeights, open_weights
from vq_core.errors import VqError
from vq_core.pipeline import Conditions, Sampling, VideoPipeline
from vq_core.progress import progress
from vq_core.prompts import Sample, read_samples
from vq_core.source import Source, open_source
from vq_core.store import ArtifactWriter, ComponentHeader, Header, create_artifact, require_parent, require_same_model
from vq_core.video import write_video
from vq_eval.variants import VARIANTS, apply_fake_quant, apply_smoothed

KIND = "videos"
FORMAT = 1


@dataclass(frozen=True)
class Candidates:
    """Which variants to make, and of which artifacts.

    Raises:
        VqError: an unknown variant, or one whose artifacts are missing or do not belong together.
    """

    variants: tuple[str, ...]
    weights: SmoothedWeights | None = None
    qparams: QuantParams | None = None

    def __post_init__(self) -> None:
        for variant in self.variants:
            if variant not in VARIANTS:
                raise VqError(f"`{variant}` is not a variant: choose from {', '.join(VARIANTS)}.")
        if self.weights is None and set(self.variants) - {"full"}:
            raise VqError(
                "`--weights` is missing: smoothed and fake-quant videos are made from vq-algos smooth's output."
            )
        if self.qparams is None and "fake-quant" in self.variants:
            raise VqError("`--qparams` is missing: fake-quant videos are made from vq-algos quantize's output.")
        if self.weights is not None and self.qparams is not None:
            require_parent(self.qparams.artifact, self.weights.artifact)


def open_candidates(variants: tuple[str, ...] | None, weights: Path | None, qparams: Path | None) -> Candidates:
    """Open the artifacts that `variants` are made of; without variants, full precision and what `qparams` allows.

    Raises:
        VqError: see `Candidates`; an artifact is damaged.
    """
    chosen = variants or (("full", "fake-quant") if qparams else ("full",))
    return Candidates(
        chosen,
        open_weights(weights) if weights and set(chosen) != {"full"} else None,
        open_qparams(qparams) if qparams and "fake-quant" in chosen else None,
    )


def make_videos(
    model: str,
    candidates: Candidates,
    prompts: Path,
    sampling: Sampling,
    output: Path,
    *,
    device: str,
    resume: bool = False,
) -> int:
    """Write `output/VARIANT/000.mp4` … (to look at) and `.mkv` (lossless, to measure), and return how many of each.

    Prompt i has seed + i. With `resume`, videos that are there already are kept.

    Raises:
        VqError: the artifacts are of another model, the prompts cannot be read, or the settings do not fit the model.
    """
    source = open_source(model)
    if candidates.weights is not None:
        require_same_model(candidates.weights.artifact, source.fingerprints, model)
    pipeline = VideoPipeline(model, device)
    pipeline.check(sampling)
    samples = read_samples(prompts, pipeline.needs_image)
    header = _header(source, candidates, samples, sampling, device)
    total = len(candidates.variants) * len(samples)
    with create_artifact(output, header, resume=resume) as writer, progress("videos", total, "video") as advance:
        conditions = pipeline.encode(samples, sampling)
        for variant in VARIANTS:
            _advance_to(variant, pipeline, candidates, device)
            if variant not in candidates.variants:
                continue
            for index in range(len(samples)):
                stem = f"{variant}/{index:03d}"
                if not writer.has(f"{stem}.mkv"):
                    _make_video(writer, stem, pipeline, conditions[index], sampling, sampling.seed + index)
                advance()
    return len(samples)


def _make_video(
    writer: ArtifactWriter, stem: str, pipeline: VideoPipeline, conditions: Conditions, sampling: Sampling, seed: int
) -> None:
    frames = pipeline.sample(conditions, sampling, seed)
    for suffix in ("mp4", "mkv"):  # the one that `has` asks for comes last
        path = writer.path(f"{stem}.{suffix}")
        path.parent.mkdir(exist_ok=True)
        write_video(path, frames, sampling.fps)


def _advance_to(variant: str, pipeline: VideoPipeline, candidates: Candidates, device: str) -> None:
    """Turn the pipeline's transformers from the preceding variant into `variant`."""
    for name, transformer in pipeline.transformers.items():
        if variant == "smoothed" and candidates.weights is not None:
            apply_smoothed(transformer, candidates.weights.components[name], device)
        if variant == "fake-quant" and candidates.weights is not None and candidates.qparams is not None:
            apply_fake_quant(transformer, candidates.weights.components[name], candidates.qparams, name, device)


def _header(
    source: Source, candidates: Candidates, samples: Sequence[Sample], sampling: Sampling, device: str
) -> Header:
    artifacts = [part.artifact for part in (candidates.weights, candidates.qparams) if part is not None]
    prompts = [{"prompt": s.prompt, "negative_prompt": s.negative_prompt, "image": _image_digest(s)} for s in samples]
    settings = {**asdict(sampling), "variants": list(candidates.variants), "prompts": prompts, "device": device}
    return Header(
        kind=KIND,
        format=FORMAT,
        tool=f"vq-eval {__version__}",
        family=source.family_name,
        model=source.name,
        components={
            name: ComponentHeader(name, checkpoint.fingerprint, checkpoint.config)
            for name, checkpoint in source.components.items()
        },
        settings=json.loads(json.dumps(settings)),
        parents={artifact.manifest.kind: artifact.digest for artifact in artifacts},
    )


def _image_digest(sample: Sample) -> str | None:
    return None if sample.image is None else hashlib.sha256(sample.image.read_bytes()).hexdigest()
