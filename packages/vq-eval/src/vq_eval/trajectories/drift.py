"""The drift of one candidate from full precision, prompt by prompt."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean

from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.tensor_file import load_tensors
from vq_core.runtime.progress import Advance
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.settings import Sampling
from vq_eval.record import BRANCHES, Branch
from vq_eval.trajectories.latent_error import LatentError, latent_error
from vq_eval.trajectories.schema import Curve, Drift, DriftSummary, PromptDrift
from vq_eval.trajectories.watched_run import SeenStep, WatchedRun

Errors = dict[str, LatentError]
"""By what was compared: a branch's prediction, `guided` or `latent`."""


def record_path(
    pipeline: VideoPipeline, conditions: Conditions, sampling: Sampling, seed: int, advance: Advance
) -> dict[str, Tensor]:
    """Sample in full precision and keep every step's predictions, guided prediction and latent, on the host.

    Returns:
        `3.cond`, `3.uncond` (under guidance), `3.guided` and `3.latent` for step 3.
    """
    seen: dict[str, Tensor] = {}

    def keep(step: int, tensors: SeenStep) -> None:
        seen.update({f"{step}.{what}": tensor.cpu().clone() for what, tensor in _named(tensors).items()})

    _sample(WatchedRun(keep), pipeline, conditions, sampling, seed, advance)
    return seen


def measure_drift(
    pipeline: VideoPipeline,
    conditions: Conditions,
    sampling: Sampling,
    seed: int,
    exact: Path,
    advance: Advance,
) -> PromptDrift:
    """Sample one prompt twice with what `pipeline` holds now: forced along the path recorded in `exact`, and free.

    Raises:
        VqError: a prediction or latent holds NaN or infinity.
    """

    def sampled(forced: Callable[[int], Tensor] | None) -> Drift:
        errors: list[Errors] = []

        def compare(step: int, tensors: SeenStep) -> None:
            named = _named(tensors)
            device = tensors.latent.device.type
            twins = load_tensors(exact, [f"{step}.{what}" for what in named], device)
            errors.append({what: latent_error(x, twins[f"{step}.{what}"]) for what, x in named.items()})
            _require_numbers(errors[-1], step, "teacher-forced" if forced else "free-running")

        _sample(WatchedRun(compare, forced), pipeline, conditions, sampling, seed, advance)
        return _drift_of(errors)

    def path(step: int) -> Tensor:
        name = f"{step}.guided"
        return load_tensors(exact, [name], pipeline.device)[name]

    return PromptDrift(teacher_forced=sampled(path), free_running=sampled(None))


def _sample(
    run: WatchedRun,
    pipeline: VideoPipeline,
    conditions: Conditions,
    sampling: Sampling,
    seed: int,
    advance: Advance,
) -> None:
    with run.attached(pipeline.transformers):
        pipeline.denoise(conditions, sampling, seed, advance, run.watch)


def _named(step: SeenStep) -> dict[str, Tensor]:
    named: dict[str, Tensor] = dict(zip(BRANCHES, step.predictions, strict=False))
    return named | {"guided": step.guided, "latent": step.latent}


def _require_numbers(errors: Errors, step: int, how: str) -> None:
    for what, error in errors.items():
        if not (math.isfinite(error.relative_error) and math.isfinite(error.cosine)):
            raise VqError(
                f"{what} holds NaN or Inf at step {step} ({how}): "
                "some codes or scales are damaged, so check the artifact with vq-export verify."
            )


def _drift_of(errors: Sequence[Errors]) -> Drift:
    curves = {
        what: Curve(
            relative_error=tuple(error[what].relative_error for error in errors),
            cosine=tuple(error[what].cosine for error in errors),
        )
        for what in errors[0]
    }
    branches: dict[Branch, Curve] = {branch: curves[branch] for branch in BRANCHES if branch in curves}
    return Drift(prediction=branches, guided=curves["guided"], latent=curves["latent"])


def mean_drift(drifts: Sequence[Drift]) -> Drift:
    """Mean over prompts, step by step."""
    branches = drifts[0].prediction
    return Drift(
        prediction={branch: _mean_curve([drift.prediction[branch] for drift in drifts]) for branch in branches},
        guided=_mean_curve([drift.guided for drift in drifts]),
        latent=_mean_curve([drift.latent for drift in drifts]),
    )


def _mean_curve(curves: Sequence[Curve]) -> Curve:
    return Curve(
        relative_error=tuple(map(fmean, zip(*(curve.relative_error for curve in curves), strict=True))),
        cosine=tuple(map(fmean, zip(*(curve.cosine for curve in curves), strict=True))),
    )


def summarize(teacher_forced: Drift, free_running: Drift) -> DriftSummary:
    """The accumulated error against the steps' own; see `DriftSummary`."""
    own = teacher_forced.latent.relative_error
    independent = math.hypot(*own)
    final = free_running.latent.relative_error[-1]
    return DriftSummary(
        final_error=final,
        final_cosine=free_running.latent.cosine[-1],
        independent_error=independent,
        amplification=final / independent if independent else None,
        worst_step=max(range(len(own)), key=own.__getitem__),
    )
