"""How the latents of several candidates drift from full precision, measured against one full-precision pass."""

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from typing import Any

from vq_core.artifacts.components import model_header
from vq_core.artifacts.videos import settings_of
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import Source, open_source
from vq_core.remote.location import Location
from vq_core.runtime.progress import Advance, progress
from vq_core.sampling.attention import AttentionKernel, attention_of, other_kernels
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.prompts import Sample, read_samples
from vq_core.sampling.schedule import TRAIN_TIMESTEPS, bucket_of
from vq_core.sampling.settings import Sampling
from vq_core.store.reader import require_same_model
from vq_core.store.writer import ArtifactWriter, Header, create_artifact
from vq_eval.record import Branch, SampledPrompt
from vq_eval.trajectories.drift import mean_drift, measure_drift, record_path, summarize
from vq_eval.trajectories.picture import draw_trajectories
from vq_eval.trajectories.schema import (
    FORMAT,
    JSON_NAME,
    KIND,
    PICTURE_NAME,
    CandidateDrift,
    PromptDrift,
    ScheduleStep,
    TrajectoryReport,
)
from vq_eval.videos.candidates import FLOOR, NamedCandidate

# Working folders of the artifact while it is made: resumed from, and removed before it is finished.
_PATHS, _DRIFTS = "paths", "drifts"


def measure_trajectories(
    model: str,
    candidates: Sequence[NamedCandidate],
    prompts: Location,
    sampling: Sampling,
    output: Location,
    *,
    floor: bool = True,
    loras: Sequence[LoraRequest] = (),
    device: str | None = None,
    resume: bool = False,
) -> TrajectoryReport:
    """Write the drift of `candidates`, and of the floor where it is asked for, to the artifact `output`.

    Full precision samples every prompt once and its path goes to disk (for 81 frames of 480p in 40 steps 1.3 GB a
    prompt, until the artifact is finished); one model is in memory at a time. Prompt i has seed `sampling.seed` + i.

    Raises:
        VqError: a candidate is of another model, the prompts cannot be read, the settings or the device do not fit,
            `output` exists, or a candidate predicts NaN.
    """
    source = open_source(model, loras)
    for candidate in candidates:
        require_same_model(candidate.weights.artifact, source.fingerprints, model)
    pipeline = VideoPipeline(model, device, source=source)
    pipeline.check(sampling)
    samples = read_samples(prompts, pipeline.inputs)
    header = _header(source, candidates, samples, sampling, pipeline, floor)
    with create_artifact(output, header, resume=resume) as writer:
        run = _Run(pipeline, samples, sampling, writer)
        run.measure(candidates, floor)
        report = TrajectoryReport(
            model=model,
            branches=_branches(sampling),
            steps=tuple(
                ScheduleStep(component=step.component, timestep=step.timestep, sigma=sigma, bucket=bucket_of(sigma))
                for step in pipeline.schedule(sampling)
                for sigma in [step.timestep / TRAIN_TIMESTEPS]
            ),
            prompts=tuple(
                SampledPrompt(prompt=it.prompt, negative_prompt=it.negative_prompt, seed=sampling.seed + index)
                for index, it in enumerate(samples)
            ),
            candidates=tuple(run.drift_of(candidate) for candidate in ([None] if floor else []) + [*candidates]),
        )
        writer.write_text(JSON_NAME, report.model_dump_json(indent=1) + "\n")
        draw_trajectories(report, writer.path(PICTURE_NAME))
        for folder in (_PATHS, _DRIFTS):
            shutil.rmtree(writer.path(folder))
    return report


@dataclass(frozen=True)
class _Run:
    """What is sampled for one `measure_trajectories`; None stands for the floor."""

    pipeline: VideoPipeline
    samples: Sequence[Sample]
    sampling: Sampling
    writer: ArtifactWriter

    def measure(self, candidates: Sequence[NamedCandidate], floor: bool) -> None:
        """Sample everything that is not measured yet: full precision, the floor, then the candidates."""
        asked: list[NamedCandidate | None] = [*([None] if floor else []), *candidates]
        prompts = range(len(self.samples))
        left = {
            _name_of(it): [index for index in prompts if not self.writer.has(_drift_file(it, index))] for it in asked
        }
        pending = sorted({index for indices in left.values() for index in indices})
        if not pending:
            return
        encoded = self.pipeline.encode([self.samples[index] for index in pending], self.sampling)
        conditions = dict(zip(pending, encoded, strict=True))
        unrecorded = [index for index in pending if not self.writer.has(_path_file(index))]
        passes = len(unrecorded) + 2 * sum(map(len, left.values()))
        with progress("trajectory", passes * self.sampling.steps, "step") as advance:
            for index in unrecorded:
                seed = self.sampling.seed + index
                path = record_path(self.pipeline, conditions[index], self.sampling, seed, advance)
                self.writer.write_tensors(_path_file(index), path)
            for candidate in asked:
                indices = left[_name_of(candidate)]
                if candidate is not None and indices:
                    candidate.apply(self.pipeline.transformers, self.pipeline.device)
                for index in indices:
                    self._measure_one(candidate, index, conditions[index], advance)

    def _measure_one(
        self, candidate: NamedCandidate | None, index: int, conditions: Conditions, advance: Advance
    ) -> None:
        exact = self.writer.path(_path_file(index))
        with nullcontext() if candidate else attention_of(self.pipeline.transformers.values(), self._floor_kernels):
            drift = measure_drift(self.pipeline, conditions, self.sampling, self.sampling.seed + index, exact, advance)
        self.writer.write_text(_drift_file(candidate, index), drift.model_dump_json() + "\n")

    @cached_property
    def _floor_kernels(self) -> tuple[AttentionKernel, ...]:
        """The attention kernels of the floor."""
        config: Any = next(iter(self.pipeline.transformers.values())).config
        return other_kernels(self.pipeline.device, self.pipeline.dtype, int(config.attention_head_dim))

    def drift_of(self, candidate: NamedCandidate | None) -> CandidateDrift:
        """What was measured of a candidate."""
        drifts = tuple(
            PromptDrift.model_validate_json(self.writer.path(_drift_file(candidate, index)).read_bytes())
            for index in range(len(self.samples))
        )
        forced = mean_drift([drift.teacher_forced for drift in drifts])
        free = mean_drift([drift.free_running for drift in drifts])
        return CandidateDrift(
            name=_name_of(candidate),
            role="floor" if candidate is None else "candidate",
            scheme=None if candidate is None else candidate.qparams.scheme.name,
            weights=None if candidate is None else candidate.weights_id,
            qparams=None if candidate is None else candidate.qparams_id,
            summary=summarize(forced, free),
            teacher_forced=forced,
            free_running=free,
            prompts=drifts,
        )


def _name_of(candidate: NamedCandidate | None) -> str:
    return FLOOR if candidate is None else candidate.name


def _path_file(index: int) -> str:
    return f"{_PATHS}/{index:03d}.safetensors"


def _drift_file(candidate: NamedCandidate | None, index: int) -> str:
    return f"{_DRIFTS}/{_name_of(candidate)}/{index:03d}.json"


def _branches(sampling: Sampling) -> tuple[Branch, ...]:
    return ("cond", "uncond") if sampling.guided else ("cond",)


def _header(
    source: Source,
    candidates: Sequence[NamedCandidate],
    samples: Sequence[Sample],
    sampling: Sampling,
    pipeline: VideoPipeline,
    floor: bool,
) -> Header:
    return model_header(
        source,
        KIND,
        FORMAT,
        tool=f"vq-eval {version('vq-eval')}",
        settings={
            **settings_of(samples, sampling, pipeline),
            "floor": floor,
            "candidates": {
                it.name: {"smoothed-weights": it.weights_id.digest, "quant-params": it.qparams_id.digest}
                for it in candidates
            },
        },
        parents={f"quant-params {it.name}": it.qparams_id.digest for it in candidates},
    )
