"""How the latents of several candidates drift from full precision, measured against one full-precision pass."""

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

from pydantic import JsonValue

from vq_core.model.lora_request import LoraRequest
from vq_core.remote.location import Location
from vq_core.runtime.progress import Advance, progress
from vq_core.sampling.attention import attention_of
from vq_core.sampling.pipeline import Conditions
from vq_core.sampling.schedule import TRAIN_TIMESTEPS, bucket_of
from vq_core.sampling.settings import Sampling
from vq_core.store.writer import ArtifactWriter, create_artifact
from vq_eval.record import BRANCHES
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
from vq_eval.videos.model_run import ModelRun, open_run

# Working folders in the artifact: a resumed run reads them, and they are removed before it is finished.
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
    """Write the drift of `candidates`, and of the floor if `floor` is set, to the artifact `output`.

    Full precision samples every prompt once. Its path stays on disk until the artifact is finished (1.3 GB a prompt for
    81 frames of 480p in 40 steps). One model is in memory at a time. Prompt i has seed `sampling.seed` + i.

    Raises:
        VqError: see `open_run`; `output` exists, or a candidate predicts NaN.
    """
    run = open_run(model, [it.weights for it in candidates], prompts, sampling, loras, device)
    asked: list[NamedCandidate | None] = [*([None] if floor else []), *candidates]
    settings: dict[str, JsonValue] = {
        "floor": floor,
        "candidates": {
            it.name: {"smoothed-weights": it.weights_id.digest, "quant-params": it.qparams_id.digest}
            for it in candidates
        },
    }
    parents = {f"quant-params {it.name}": it.qparams_id.digest for it in candidates}
    with create_artifact(output, run.header(KIND, FORMAT, settings, parents), resume=resume) as writer:
        measured = _Measured(run, writer)
        measured.measure(asked)
        report = TrajectoryReport(
            model=model,
            branches=BRANCHES if sampling.guided else BRANCHES[:1],
            steps=tuple(
                ScheduleStep(component=step.component, timestep=step.timestep, sigma=sigma, bucket=bucket_of(sigma))
                for step in run.pipeline.schedule(sampling)
                for sigma in [step.timestep / TRAIN_TIMESTEPS]
            ),
            prompts=run.sampled_prompts,
            candidates=tuple(map(measured.drift_of, asked)),
        )
        writer.write_text(JSON_NAME, report.model_dump_json(indent=1) + "\n")
        draw_trajectories(report, writer.draft(PICTURE_NAME))
        writer.adopt(PICTURE_NAME)
        for folder in (_PATHS, _DRIFTS):
            shutil.rmtree(writer.path(folder), ignore_errors=True)  # a killed run may have removed one
    return report


@dataclass(frozen=True)
class _Measured:
    """What one `measure_trajectories` has measured so far; None stands for the floor."""

    run: ModelRun
    writer: ArtifactWriter

    def measure(self, asked: Sequence[NamedCandidate | None]) -> None:
        """Sample what is not measured yet: full precision, the floor, then the candidates."""
        prompts = range(len(self.run.samples))
        left = {
            _name_of(it): [index for index in prompts if not self.writer.has(_drift_file(it, index))] for it in asked
        }
        pending = sorted({index for indices in left.values() for index in indices})
        if not pending:
            return
        pipeline, sampling = self.run.pipeline, self.run.sampling
        conditions = self.run.encode(pipeline, pending)
        unrecorded = [index for index in pending if not self.writer.has(_path_file(index))]
        passes = len(unrecorded) + 2 * sum(map(len, left.values()))
        with progress("trajectory", passes * sampling.steps, "step") as advance:
            for index in unrecorded:
                path = record_path(pipeline, conditions[index], sampling, self.run.seed(index), advance)
                self.writer.write_tensors(_path_file(index), path)
            for candidate in asked:
                indices = left[_name_of(candidate)]
                if candidate is not None and indices:
                    candidate.apply(pipeline.transformers, pipeline.device)
                for index in indices:
                    self._measure_one(candidate, index, conditions[index], advance)

    def _measure_one(
        self, candidate: NamedCandidate | None, index: int, conditions: Conditions, advance: Advance
    ) -> None:
        pipeline, exact = self.run.pipeline, self.writer.path(_path_file(index))
        with attention_of(pipeline.transformers.values(), self.run.floor_kernels) if not candidate else nullcontext():
            drift = measure_drift(pipeline, conditions, self.run.sampling, self.run.seed(index), exact, advance)
        self.writer.write_text(_drift_file(candidate, index), drift.model_dump_json() + "\n")

    def drift_of(self, candidate: NamedCandidate | None) -> CandidateDrift:
        """The drift of a candidate over all prompts."""
        drifts = tuple(
            PromptDrift.model_validate_json(self.writer.path(_drift_file(candidate, index)).read_bytes())
            for index in range(len(self.run.samples))
        )
        forced = mean_drift([drift.teacher_forced for drift in drifts])
        free = mean_drift([drift.free_running for drift in drifts])
        return CandidateDrift(
            name=_name_of(candidate),
            role="floor" if candidate is None else "candidate",
            scheme=None if candidate is None else candidate.qparams.scheme,
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
