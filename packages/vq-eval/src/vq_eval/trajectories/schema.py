"""The schema of `trajectory.json`: how the latents of candidates drift from full precision over the steps."""

from importlib.metadata import version
from typing import Literal

from pydantic import Field

from vq_eval.record import ArtifactId, Branch, Record, SampledPrompt

KIND = "trajectory"
FORMAT = 1
JSON_NAME = "trajectory.json"
PICTURE_NAME = "trajectory.png"

Role = Literal["floor", "candidate"]


class ScheduleStep(Record):
    """A denoising step.

    Attributes:
        component: the transformer that it calls, `transformer` or `transformer_2`.
        timestep: 1000 · sigma.
        sigma: noise level, 1 for noise and 0 for video.
        bucket: of sigma, as in activation statistics.
    """

    component: str
    timestep: float
    sigma: float
    bucket: int


class Curve(Record):
    """A figure at every step, in their order.

    Attributes:
        relative_error: ‖x − x_full‖ / ‖x_full‖.
        cosine: ⟨x, x_full⟩ / (‖x‖ ‖x_full‖).
    """

    relative_error: tuple[float, ...]
    cosine: tuple[float, ...]


class Drift(Record):
    """What separates a candidate from full precision, step by step.

    Attributes:
        prediction: output of the transformer, by guidance branch.
        guided: the prediction that the scheduler gets: both branches, mixed by the guidance scale.
        latent: the latent after the step.
    """

    prediction: dict[Branch, Curve]
    guided: Curve
    latent: Curve


class PromptDrift(Record):
    """One prompt; see `CandidateDrift`."""

    teacher_forced: Drift
    free_running: Drift


class DriftSummary(Record):
    """Accumulated error against the errors of single steps, all of latents, means over prompts.

    Attributes:
        final_error: relative error of the last latent, free-running.
        final_cosine: its cosine.
        independent_error: what the last latent's would be if every step's own error were carried on unchanged and none
            had to do with another: √(Σ e²) over the teacher-forced latent errors.
        amplification: `final_error` / `independent_error`: above 1 where the sampler makes errors grow or steps err
            alike, below where it heals them. None where no step errs.
        worst_step: the step whose own latent error is largest.
    """

    final_error: float
    final_cosine: float
    independent_error: float
    amplification: float | None
    worst_step: int


class CandidateDrift(Record):
    """A candidate, or the floor: full precision once more, with another attention kernel.

    Attributes:
        name: in tables and legends.
        role: `floor` or `candidate`.
        scheme: as `vq-algos quantize --scheme` takes it; None for the floor.
        weights, qparams: the artifacts; None for the floor.
        summary: its figures in short.
        teacher_forced: every step starts from full precision's latent and history, so the error is that step's own.
            Mean over prompts.
        free_running: the candidate samples alone from the same noise, so the error is accumulated. Mean over prompts.
        prompts: the same for every prompt, in the order of `TrajectoryReport.prompts`.
    """

    name: str
    role: Role
    scheme: str | None
    weights: ArtifactId | None
    qparams: ArtifactId | None
    summary: DriftSummary
    teacher_forced: Drift
    free_running: Drift
    prompts: tuple[PromptDrift, ...]


class TrajectoryReport(Record):
    """The drift of several candidates from one full-precision pass.

    Attributes:
        tool: `vq-eval` and its version.
        model: as it was given.
        branches: that the sampler calls; the second only under guidance.
        steps: the schedule, which every curve follows.
        prompts: that were sampled.
        candidates: the floor first, where it was measured, then the candidates as they were given.
    """

    kind: Literal["trajectory"] = "trajectory"
    format: Literal[1] = 1
    tool: str = Field(default_factory=lambda: f"vq-eval {version('vq-eval')}")
    model: str
    branches: tuple[Branch, ...]
    steps: tuple[ScheduleStep, ...]
    prompts: tuple[SampledPrompt, ...]
    candidates: tuple[CandidateDrift, ...]
