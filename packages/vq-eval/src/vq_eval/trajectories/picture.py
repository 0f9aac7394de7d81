"""The drift of candidates as curves over the steps."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vq_core.files.tensor_file import publish
from vq_eval.trajectories.schema import CandidateDrift, Curve, TrajectoryReport

BRANCH_STYLES = {"cond": "-", "uncond": ":"}


def draw_trajectories(report: TrajectoryReport, picture: Path) -> None:
    """Write `picture`, a PNG: error of the predictions and of the latent at every step, both on logarithmic scales.

    A curve has a gap where a step has no error, as the floor has where its kernels agree.
    """
    figure = Figure(figsize=(13, 4.5), dpi=120, layout="constrained")
    predictions, latents = figure.subplots(1, 2)
    for index, candidate in enumerate(report.candidates):
        colour = "0.5" if candidate.role == "floor" else f"C{index}"
        _draw_predictions(predictions, candidate, colour)
        _draw_latents(latents, candidate, colour)
    predictions.set_title("each step's own error: prediction, teacher-forced")
    latents.set_title("latent: a step's own error (dashed), accumulated (solid)")
    for axes in (predictions, latents):
        _finish(axes, report)
    save_picture(figure, picture)


def save_picture(figure: Figure, picture: Path) -> None:
    """Write `figure` to the PNG `picture`, whole or not at all; equal figures give equal bytes."""
    draft = picture.with_name(f".{picture.name}.tmp")
    figure.savefig(draft, format="png", metadata={"Software": None})
    publish(draft, picture)


def _draw_predictions(axes: Axes, candidate: CandidateDrift, colour: str) -> None:
    for branch, curve in candidate.teacher_forced.prediction.items():
        axes.plot(_heights(curve), BRANCH_STYLES[branch], color=colour, label=f"{candidate.name}, {branch}")


def _draw_latents(axes: Axes, candidate: CandidateDrift, colour: str) -> None:
    axes.plot(_heights(candidate.teacher_forced.latent), "--", color=colour)
    axes.plot(_heights(candidate.free_running.latent), "-", color=colour, label=candidate.name)


def _heights(curve: Curve) -> Sequence[float]:
    return [error or float("nan") for error in curve.relative_error]


def _finish(axes: Axes, report: TrajectoryReport) -> None:
    components = [step.component for step in report.steps]
    for step in range(1, len(components)):
        if components[step] != components[step - 1]:
            axes.axvline(step - 0.5, color="0.7", linewidth=1)
            axes.annotate(components[step], (step - 0.4, 0.01), xycoords=("data", "axes fraction"), color="0.4")
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("relative error")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(visible=True, which="both", alpha=0.25)
    axes.legend(fontsize="small")
