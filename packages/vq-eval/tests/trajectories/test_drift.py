import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.files.tensor_file import write_tensors
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.prompts import read_samples
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant
from vq_eval.trajectories.drift import mean_drift, measure_drift, record_path, summarize
from vq_eval.trajectories.schema import Curve, Drift, PromptDrift
from vq_eval.videos.variants import apply_fake_quant

Artifacts = Callable[[Variant], tuple[Path, Path]]
TinyModel = Callable[[Variant], Path]
SEED = 3


class Case:
    """A tiny model, a prompt, and the path that full precision takes."""

    def __init__(self, model: Path, artifacts: tuple[Path, Path], prompts: Path, folder: Path, guidance: float) -> None:
        self.sampling = Sampling(steps=3, height=32, width=32, num_frames=5, guidance_scale=guidance)
        self.pipeline = VideoPipeline(str(model), "cpu")
        samples = read_samples(prompts, self.pipeline.inputs)[:1]
        (self.conditions,) = self.pipeline.encode(samples, self.sampling)
        self.weights, self.qparams = open_weights(artifacts[0]), open_qparams(artifacts[1])
        self.recorded = record_path(self.pipeline, self.conditions, self.sampling, SEED, lambda: None)
        self.path = folder / "path.safetensors"
        write_tensors(self.path, self.recorded)

    def quantize(self) -> None:
        for name, transformer in self.pipeline.transformers.items():
            apply_fake_quant(transformer, self.weights.components[name], self.qparams, name, "cpu")

    def drift(self) -> PromptDrift:
        return measure_drift(self.pipeline, self.conditions, self.sampling, SEED, self.path, lambda: None)


@pytest.fixture
def case(tiny_model: TinyModel, artifacts: Artifacts, prompts: Path, tmp_path: Path) -> Callable[..., Case]:
    return lambda variant, guidance=5.0: Case(tiny_model(variant), artifacts(variant), prompts, tmp_path, guidance)


def test_the_path_holds_every_step(case: Callable[..., Case]) -> None:
    tiny = case("t2v")
    kinds = ("cond", "uncond", "guided", "latent")
    assert set(tiny.recorded) == {f"{step}.{kind}" for step in range(3) for kind in kinds}
    cond, uncond, guided = (tiny.recorded[f"1.{kind}"] for kind in kinds[:3])
    torch.testing.assert_close(guided, uncond + 5 * (cond - uncond))


def test_full_precision_does_not_drift_from_itself(case: Callable[..., Case]) -> None:
    drift = case("t2v").drift()
    for of in (drift.teacher_forced, drift.free_running):
        for curve in (*of.prediction.values(), of.guided, of.latent):
            assert curve == Curve(relative_error=(0, 0, 0), cosine=(1, 1, 1))


def test_a_quantized_model_is_judged_from_the_exact_path(case: Callable[..., Case]) -> None:
    """Against the formulas, on what each call of the transformers really read and gave."""
    tiny = case("t2v")
    exact_inputs = inputs_of(tiny.pipeline, tiny.conditions, tiny.sampling)
    tiny.quantize()
    drift = tiny.drift()
    transformer = tiny.pipeline.transformers["transformer"]
    for step in range(3):
        for branch, call in zip(("cond", "uncond"), exact_inputs[2 * step : 2 * step + 2], strict=True):
            with torch.no_grad():
                (ours,) = transformer(**call)
            expected = norm(ours - tiny.recorded[f"{step}.{branch}"]) / norm(tiny.recorded[f"{step}.{branch}"])
            curve = drift.teacher_forced.prediction[branch]  # type: ignore[index]
            assert curve.relative_error[step] == pytest.approx(expected, rel=1e-4)
    own, free = drift.teacher_forced.latent.relative_error, drift.free_running.latent.relative_error
    assert own[0] == free[0] > 0  # the first step starts from the same noise
    assert own[1] != free[1]
    assert all(1e-4 < error < 0.3 for error in own + free)


def test_free_running_ends_where_the_quantized_model_ends(case: Callable[..., Case]) -> None:
    tiny = case("t2v")
    tiny.quantize()
    free = tiny.drift().free_running
    own_path = record_path(tiny.pipeline, tiny.conditions, tiny.sampling, SEED, lambda: None)
    ours, exact = own_path["2.latent"].double(), tiny.recorded["2.latent"].double()
    assert free.latent.relative_error[-1] == pytest.approx(norm(ours - exact) / norm(exact), rel=1e-6)
    cosine = float((ours * exact).sum()) / (norm(ours) * norm(exact))
    assert free.latent.cosine[-1] == pytest.approx(cosine, rel=1e-9)


def test_without_guidance_there_is_one_branch(case: Callable[..., Case]) -> None:
    tiny = case("t2v", 1.0)
    tiny.quantize()
    drift = tiny.drift().teacher_forced
    assert list(drift.prediction) == ["cond"]
    assert drift.prediction["cond"] == drift.guided


def test_both_experts_are_seen_in_their_turn(case: Callable[..., Case]) -> None:
    tiny = case("t2v-2.2")
    # The second expert alone is quantized: the first errs in no step.
    apply_fake_quant(
        tiny.pipeline.transformers["transformer_2"],
        tiny.weights.components["transformer_2"],
        tiny.qparams,
        "transformer_2",
        "cpu",
    )
    experts = [step.component for step in tiny.pipeline.schedule(tiny.sampling)]
    assert set(experts) == {"transformer", "transformer_2"}
    errors = tiny.drift().teacher_forced.latent.relative_error
    assert [error > 0 for error in errors] == [expert == "transformer_2" for expert in experts]


def test_nan_is_refused(case: Callable[..., Case]) -> None:
    tiny = case("t2v")
    tiny.quantize()
    linear = tiny.pipeline.transformers["transformer"].get_submodule("blocks.1.ffn.net.2")
    linear.get_buffer("scale")[0] = math.nan
    with pytest.raises(VqError, match="cond holds NaN or Inf at step 0"):
        tiny.drift()


def inputs_of(pipeline: VideoPipeline, conditions: Conditions, sampling: Sampling) -> list[dict[str, Any]]:
    """Arguments of every call of the transformer."""
    calls: list[dict[str, Any]] = []

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append({key: it.clone() if isinstance(it, Tensor) else it for key, it in kwargs.items()})

    with pipeline.transformers["transformer"].register_forward_pre_hook(keep, with_kwargs=True):
        pipeline.denoise(conditions, sampling, SEED)
    return calls


def norm(x: Tensor) -> float:
    return math.sqrt(float(x.double().square().sum()))


def curve(*errors: float) -> Curve:
    return Curve(relative_error=errors, cosine=tuple(1 - error for error in errors))


def drift_of(*errors: float) -> Drift:
    return Drift(prediction={"cond": curve(*errors)}, guided=curve(*errors), latent=curve(*errors))


def test_means_are_taken_step_by_step() -> None:
    mean = mean_drift([drift_of(0.25, 0.5), drift_of(0.75, 0.0)])
    assert mean.latent == mean.guided == mean.prediction["cond"] == curve(0.5, 0.25)


def test_the_summary_holds_accumulated_against_own_errors() -> None:
    summary = summarize(drift_of(0.03, 0.04), drift_of(0.03, 0.1))
    assert summary.independent_error == pytest.approx(0.05)
    assert summary.amplification == pytest.approx(2)
    assert (summary.final_error, summary.final_cosine, summary.worst_step) == (0.1, 0.9, 1)
    assert summarize(drift_of(0.0), drift_of(0.0)).amplification is None
