from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_core.remote.location import NamedPath
from vq_core.sampling.settings import Sampling
from vq_core.store.reader import open_artifact
from vq_core.testing.tiny_models import Variant
from vq_core.topology import Topology
from vq_eval.layers import measure
from vq_eval.layers.measure import measure_layers
from vq_eval.layers.schema import FORMAT, JSON_NAME, KIND, LayersReport
from vq_eval.layers.sensitivity import SensitivityRequest
from vq_eval.videos.candidates import NamedCandidate, open_named

Artifacts = Callable[[Variant], tuple[Path, Path]]
TinyModel = Callable[[Variant], Path]
SMALL = Sampling(steps=2, height=32, width=32, num_frames=5)


@pytest.fixture
def candidate(artifacts: Artifacts) -> Callable[[Variant], NamedCandidate]:
    def opened(variant: Variant) -> NamedCandidate:
        weights, qparams = artifacts(variant)
        return open_named([weights], [NamedPath("int8", qparams)])[0]

    return opened


def test_every_linear_block_and_output_has_figures(report: LayersReport, topology: Topology) -> None:
    assert [it.name for it in report.places] == [
        *(linear.name for linear in topology.linears),
        *("blocks.0", "blocks.1", "blocks.2"),
        "",
    ]
    for place in report.places:
        assert [(cell.bucket, cell.branch) for cell in place.cells] == [
            (6, "cond"),
            (6, "uncond"),
            (7, "cond"),
            (7, "uncond"),
        ]
        assert place.in_place.snr_db is not None
        assert 5 < place.in_place.snr_db < 60
    for kind in ("linear", "block"):
        assert sum(it.share or 0 for it in report.places if it.kind == kind) == pytest.approx(1)
    assert report.suspects == ()
    assert len(report.ranking.linears) == len(topology.linears)


def test_errors_accumulate_over_the_blocks(report: LayersReport) -> None:
    places = {it.name: it for it in report.places}
    first, last = places["blocks.0.attn1.to_q"], places["blocks.2.attn1.to_q"]
    assert first.own is not None
    assert last.own is not None
    assert first.in_place.noise_to_signal == pytest.approx(first.own.noise_to_signal, rel=1e-3)
    assert last.in_place.noise_to_signal > 1.5 * last.own.noise_to_signal


def test_leaving_all_linears_out_leaves_no_error(report: LayersReport) -> None:
    sensitivity = report.sensitivity
    assert sensitivity is not None
    none, one, everything = sensitivity.rows
    assert [row.left_out for row in sensitivity.rows] == [0, 1, 30]
    assert one.added == report.ranking.linears[:1]
    assert none.latent_error > 1e-3 > 1e-4 > everything.latent_error
    assert none.psnr_db is not None
    assert everything.psnr_db is None or everything.psnr_db > none.psnr_db + 20


def test_the_folder_holds_figures_pictures_and_where_they_come_from(
    layered: Path, candidate: Callable[[Variant], NamedCandidate]
) -> None:
    names = ["layers.json", "layers.md", "layers.png", "manifest.json", "sensitivity.png"]
    assert sorted(path.name for path in layered.iterdir()) == names
    manifest = open_artifact(layered, KIND, FORMAT).manifest
    ours = candidate("t2v")
    assert manifest.parents == {"smoothed-weights": ours.weights_id.digest, "quant-params": ours.qparams_id.digest}


def test_an_interrupted_run_is_continued_to_the_same_bytes(
    layered: Path,
    tiny_model: TinyModel,
    candidate: Callable[[Variant], NamedCandidate],
    one_prompt: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcome = measure.outcome_of
    made: list[int] = []

    def stopping(*arguments: Any) -> Any:
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(1)
        return outcome(*arguments)

    def run(*, resume: bool) -> None:
        measure_layers(
            str(tiny_model("t2v")),
            candidate("t2v"),
            one_prompt,
            SMALL,
            tmp_path / "layers",
            sensitivity=SensitivityRequest("linears", (1, 30)),
            device="cpu",
            resume=resume,
        )

    monkeypatch.setattr(measure, "outcome_of", stopping)
    with pytest.raises(KeyboardInterrupt):
        run(resume=False)
    monkeypatch.setattr(measure, "outcome_of", outcome)
    monkeypatch.setattr(measure, "Lockstep", None)  # nothing is added up again
    run(resume=True)
    for name in (JSON_NAME, "layers.md", "layers.png", "sensitivity.png"):
        assert (tmp_path / "layers" / name).read_bytes() == (layered / name).read_bytes()


def test_both_experts_are_measured_where_they_are_called(
    tiny_model: TinyModel, candidate: Callable[[Variant], NamedCandidate], one_prompt: Path, tmp_path: Path
) -> None:
    def run(steps: int) -> LayersReport:
        sampling = Sampling(steps=steps, height=32, width=32, num_frames=5)
        output = tmp_path / f"layers-{steps}"
        return measure_layers(
            str(tiny_model("t2v-2.2")), candidate("t2v-2.2"), one_prompt, sampling, output, device="cpu"
        )

    outputs = {it.component: it for it in run(2).places if it.kind == "output"}
    assert {name: {cell.bucket for cell in it.cells} for name, it in outputs.items()} == {
        "transformer": {7},
        "transformer_2": {6},
    }
    with pytest.raises(VqError, match="transformer_2 is never called: .* raise --steps"):
        run(1)


def test_another_model_and_too_much_left_out_are_refused(
    tiny_model: TinyModel, candidate: Callable[[Variant], NamedCandidate], one_prompt: Path, tmp_path: Path
) -> None:
    with pytest.raises(VqError, match="was made from another model"):
        measure_layers(str(tiny_model("i2v")), candidate("t2v"), one_prompt, SMALL, tmp_path / "layers", device="cpu")
    assert not any(tmp_path.iterdir())
