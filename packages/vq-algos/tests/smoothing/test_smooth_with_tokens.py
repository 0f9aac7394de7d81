"""Smoothing that is chosen on sampled tokens: the function stays, nothing gets worse, and the record says so."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vq_algos.rounding.sampled_inputs import SampledInputs
from vq_algos.smoothing import smooth as smoothing_harness
from vq_algos.smoothing.smooth import SmoothSettings, smooth
from vq_algos.smoothing.smoothing_problem import Smoothing
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import SmoothedTransformer, open_weights
from vq_core.model.source import open_source
from vq_core.numerics.quantize import dequantize, quantize_tokens
from vq_core.numerics.scheme import NumberFormat
from vq_core.topology import Group

UP, DOWN = "blocks.1.ffn.net.0.proj", "blocks.1.ffn.net.2"


def _smooth(model: Path, stats: ActivationStats, output: Path, method: str, scheme: str | None = "int8") -> Path:
    smooth(open_source(str(model)), stats, SmoothSettings(method, scheme), output)
    return output


def _component(artifact: Path) -> SmoothedTransformer:
    return open_weights(artifact).components["transformer"]


def _group(component: SmoothedTransformer, name: str) -> Group:
    return next(group for group in component.topology.groups if group.name == name)


@pytest.mark.parametrize("method", ["auto", "awq", "noise", "smoothquant"])
def test_weights_times_gain_are_the_models_own(
    method: str, i2v_model: Path, stats: ActivationStats, tmp_path: Path
) -> None:
    component = _component(_smooth(i2v_model, stats, tmp_path / "out", method))
    original = open_source(str(i2v_model)).components["transformer"]
    rows = {linear for group in component.topology.groups for linear in getattr(group.sink, "linears", ())}
    changed = 0
    for group in component.topology.groups:
        gain = component.gain(group.gain)
        changed += bool((gain != 1).any())
        for linear in set(group.reads) - rows:  # those that produce another group's input carry its gain as well
            name = f"{linear}.weight"
            folded, own = component.plain([name])[name], original.plain([name])[name].float()
            torch.testing.assert_close(folded * gain, own, rtol=1e-6, atol=0)
    assert changed >= 8


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_auto_makes_no_group_worse_on_held_out_tokens(
    scheme: str, i2v_model: Path, stats: ActivationStats, tmp_path: Path
) -> None:
    decisions = open_weights(_smooth(i2v_model, stats, tmp_path / "out", "auto", scheme)).decisions("transformer")
    assert {name for name in decisions if name.endswith("ffn.down")} == (
        {"blocks.0.ffn.down", "blocks.1.ffn.down"} if scheme == "int8" else set()
    )
    for name, entry in decisions.items():
        assert entry["output_snr_db"] >= entry["unsmoothed_snr_db"] - 1e-3, name
        assert entry["smoother"] in ("none", "noise", "awq", "smoothquant", "gelu_rescale")


@pytest.mark.parametrize("method", ["auto", "awq", "noise", "smoothquant"])
def test_one_vector_for_all_blocks_keeps_the_function_and_makes_no_linear_worse(
    method: str, i2v_model: Path, stats: ActivationStats, tmp_path: Path
) -> None:
    smooth(open_source(str(i2v_model)), stats, SmoothSettings(method, "int8", target="comfyui"), tmp_path / "out")
    artifact = open_weights(tmp_path / "out")
    component, decisions = artifact.components["transformer"], artifact.decisions("transformer")
    original = open_source(str(i2v_model)).components["transformer"]
    assert not any(name.endswith(("attn1.qkv", "ffn.up")) for name in decisions if name.startswith("blocks"))
    for across in component.topology.across_blocks:
        entry = decisions[across.name]
        assert method != "auto" or entry["output_snr_db"] >= entry["unsmoothed_snr_db"] - 1e-3
        for group in across.members:
            gain = component.input_gain(group)
            assert float(gain.min()) == 1
            name = f"{group.reads[0]}.weight"
            folded, own = component.plain([name])[name], original.plain([name])[name].float()
            torch.testing.assert_close(folded * gain, own, rtol=1e-6, atol=0)


def test_without_a_scheme_nothing_is_judged(i2v_model: Path, stats: ActivationStats, tmp_path: Path) -> None:
    decisions = open_weights(_smooth(i2v_model, stats, tmp_path / "out", "noise", None)).decisions("transformer")
    assert all("output_snr_db" not in entry for entry in decisions.values())


def test_the_same_statistics_give_the_same_bits(i2v_model: Path, stats: ActivationStats, tmp_path: Path) -> None:
    digests = {
        open_weights(_smooth(i2v_model, stats, tmp_path / name, "auto")).artifact.digest for name in ("one", "two")
    }
    assert len(digests) == 1


@pytest.fixture
def rescaled(i2v_model: Path, stats: ActivationStats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Weights whose feed-forward is rescaled through GELU, whether or not it pays."""

    def rescale(problem: smoothing_harness.FeedForward) -> Smoothing:
        s = torch.ones(len(problem.absmax))
        s[:5] = 4.0
        return Smoothing(s, {"smoother": "gelu_rescale", "channels": 5, "power": 1.0})

    monkeypatch.setattr(smoothing_harness, "rescaling", rescale)
    return _smooth(i2v_model, stats, tmp_path / "rescaled", "auto")


def test_rescaling_folds_rows_before_gelu_and_columns_behind_it(rescaled: Path, i2v_model: Path) -> None:
    component, original = _component(rescaled), open_source(str(i2v_model)).components["transformer"]
    names = [f"{UP}.weight", f"{UP}.bias", f"{DOWN}.weight"]
    (up, bias, down), own = component.plain(names).values(), original.plain(names)
    gain = component.gain(_group(component, "blocks.1.ffn.down").gain)
    assert gain[:6].tolist() == [0.25, 0.25, 0.25, 0.25, 0.25, 1.0]
    above = component.gain(_group(component, "blocks.1.ffn.up").gain)
    torch.testing.assert_close(up, own[f"{UP}.weight"].float() / above * gain.unsqueeze(1), rtol=1e-6, atol=0)
    assert torch.equal(bias, own[f"{UP}.bias"].float() * gain)
    assert torch.equal(down, own[f"{DOWN}.weight"].float() / gain)


def test_behind_a_rescaled_gelu_the_inputs_are_those_of_the_runtime(rescaled: Path, stats: ActivationStats) -> None:
    component = _component(rescaled)
    inputs = SampledInputs("transformer", component, stats, "cpu")
    group, above = _group(component, "blocks.1.ffn.down"), _group(component, "blocks.1.ffn.up")
    found = inputs.inputs_of(group, NumberFormat.INT8).held_out
    up, bias = component.plain([f"{UP}.weight", f"{UP}.bias"]).values()
    x = stats.tokens("transformer", above.name, "held-out").rows.float() * component.gain(above.gain)
    hidden = F.gelu(x @ up.T + bias, approximate="tanh")
    torch.testing.assert_close(
        found.x_hat, dequantize(quantize_tokens(hidden, NumberFormat.INT8)), rtol=0.02, atol=0.02
    )
    tokens = stats.tokens("transformer", group.name, "held-out")
    assert torch.equal(found.x, tokens.rows.float() * component.gain(group.gain))
