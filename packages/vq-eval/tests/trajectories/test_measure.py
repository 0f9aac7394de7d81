import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_core.sampling.prompts import SAMPLES_FILE
from vq_core.sampling.settings import Sampling
from vq_core.store.reader import open_artifact
from vq_core.testing.tiny_models import Variant
from vq_eval.trajectories import measure
from vq_eval.trajectories.drift import mean_drift
from vq_eval.trajectories.measure import measure_trajectories
from vq_eval.trajectories.schema import FORMAT, JSON_NAME, KIND, PICTURE_NAME, TrajectoryReport
from vq_eval.videos.candidates import NamedCandidate

TinyModel = Callable[[Variant], Path]
SMALL = Sampling(steps=2, height=32, width=32, num_frames=5)


def test_the_floor_comes_first_and_no_candidate_comes_near_it(report: TrajectoryReport) -> None:
    assert [(it.name, it.role, it.scheme) for it in report.candidates] == [
        ("floor", "floor", None),
        ("int8", "candidate", "int8"),
        ("fp8", "candidate", "fp8"),
    ]
    floor, int8, fp8 = report.candidates
    assert 0 < floor.summary.final_error < 1e-4 < int8.summary.final_error < fp8.summary.final_error < 0.5
    assert floor.weights is None
    assert int8.weights != fp8.weights


def test_curves_follow_the_schedule_for_every_prompt(report: TrajectoryReport, prompts: Path) -> None:
    assert report.branches == ("cond", "uncond")
    assert [(step.component, step.bucket) for step in report.steps] == [("transformer", 7), ("transformer", 6)]
    assert [step.sigma * 1000 for step in report.steps] == pytest.approx([step.timestep for step in report.steps])
    entries = json.loads((prompts / SAMPLES_FILE).read_text())
    texts = [(it["prompt"], 42 + index) for index, it in enumerate(entries)]
    assert [(it.prompt, it.seed) for it in report.prompts] == texts
    for candidate in report.candidates:
        assert len(candidate.prompts) == 2
        assert candidate.free_running == mean_drift([it.free_running for it in candidate.prompts])
        assert candidate.teacher_forced == mean_drift([it.teacher_forced for it in candidate.prompts])
        assert candidate.prompts[0] != candidate.prompts[1]
        assert len(candidate.free_running.latent.cosine) == 2


def test_the_folder_holds_figures_picture_and_where_they_come_from(
    drifted: Path, candidates: list[NamedCandidate]
) -> None:
    assert sorted(path.name for path in drifted.iterdir()) == ["manifest.json", JSON_NAME, PICTURE_NAME]
    manifest = open_artifact(drifted, KIND, FORMAT).manifest
    assert manifest.parents["quant-params int8"] == candidates[0].qparams_id.digest
    settings: Any = manifest.settings["candidates"]
    assert settings["int8"]["smoothed-weights"] == candidates[0].weights_id.digest


def test_alone_or_after_others_a_candidate_has_the_same_figures(
    report: TrajectoryReport,
    tiny_model: TinyModel,
    candidates: list[NamedCandidate],
    prompts: Path,
    tmp_path: Path,
) -> None:
    """INT8 is applied over full precision here; in `drifted` the floor came before it, and FP8 over it."""
    alone = measure_trajectories(
        str(tiny_model("t2v")), candidates[:1], prompts, SMALL, tmp_path / "alone", floor=False, device="cpu"
    )
    assert alone.candidates == (report.candidates[1],)


def test_an_interrupted_run_is_continued_to_the_same_bytes(
    drifted: Path,
    tiny_model: TinyModel,
    candidates: list[NamedCandidate],
    prompts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured: list[int] = []

    def run(stop_after: int, *, resume: bool) -> None:
        def stopping(*arguments: Any) -> Any:
            if len(measured) == stop_after:
                raise KeyboardInterrupt
            measured.append(arguments[3])
            return plain(*arguments)

        monkeypatch.setattr(measure, "measure_drift", stopping)
        output = tmp_path / "drift"
        model = str(tiny_model("t2v"))
        measure_trajectories(model, candidates, prompts, SMALL, output, device="cpu", resume=resume)

    plain = measure.measure_drift
    with pytest.raises(KeyboardInterrupt):
        run(3, resume=False)
    monkeypatch.setattr(measure, "record_path", None)  # full precision is not sampled again
    run(99, resume=True)
    assert measured == [42, 43] * 3
    for name in (JSON_NAME, PICTURE_NAME):
        assert (tmp_path / "drift" / name).read_bytes() == (drifted / name).read_bytes()


def test_another_model_and_sizes_that_do_not_fit_are_refused(
    tiny_model: TinyModel, candidates: list[NamedCandidate], prompts: Path, tmp_path: Path
) -> None:
    for model, sampling, sentence in (
        ("i2v", SMALL, "was made from another model"),
        ("t2v", replace(SMALL, height=33), "height 33 is not a multiple"),
    ):
        with pytest.raises(VqError, match=sentence):
            measure_trajectories(
                str(tiny_model(model)), candidates, prompts, sampling, tmp_path / "drift", device="cpu"
            )
    assert not any(tmp_path.iterdir())
