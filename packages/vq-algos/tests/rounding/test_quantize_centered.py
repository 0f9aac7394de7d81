"""Centering, decided when a model is quantized: taken where it wins, and then exactly what is recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.smoothing.smooth import SmoothSettings
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import open_weights
from vq_core.numerics.centering import offset_of, subtracts_itself
from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.scheme import scheme_named

RECORDED_DB = 2e-3


@pytest.fixture
def smoothed(make_smoothed: Callable[..., Path], i2v_model: Path) -> Path:
    return make_smoothed(i2v_model, SmoothSettings(target="native"))


def _quantize(weights: Path, output: Path, stats: ActivationStats | None, **settings: Any) -> QuantParams:
    quantize(open_weights(weights), QuantizeSettings(**({"scheme": "int8"} | settings)), output, stats=stats)
    return open_qparams(output)


@pytest.mark.parametrize(("scheme", "rotate"), [("int8", "none"), ("int8", "all"), ("fp8", "none")])
def test_what_is_recorded_is_what_the_runtime_computes(
    smoothed: Path, offset_stats: ActivationStats, tmp_path: Path, scheme: str, rotate: str
) -> None:
    qparams = _quantize(smoothed, tmp_path / "out", offset_stats, scheme=scheme, rotate=rotate, center=True)
    component = open_weights(smoothed).components["transformer"]
    topology, decisions = component.topology, qparams.decisions("transformer")
    centered = {linear for linear, decision in decisions.items() if "centered" in decision}
    could = {
        linear
        for group in topology.groups
        for linear in group.reads
        if offset_of(topology, group) or subtracts_itself(group)
    }
    assert centered <= could
    assert centered == could or scheme == "fp8"
    assert centered
    for group in topology.groups:
        assert len({linear in centered for linear in group.reads}) == 1
    for linear in centered:
        group = topology.group_of(linear)
        tokens = offset_stats.tokens("transformer", group.name, "held-out")
        lost, subtracted = qparams.mean("transformer", group), qparams.input_mean("transformer", group)
        assert (subtracted is not None) == subtracts_itself(group)
        mean = lost if subtracted is None else subtracted
        assert mean is not None
        x = tokens.rows.double() * component.input_gain(group).double()
        weight, bias = (it.double() for it in component.plain([f"{linear}.weight", f"{linear}.bias"]).values())
        read = (x - mean).float()
        moved = bias + weight @ mean.double()
        output = w8a8_linear(
            read, qparams.linear("transformer", linear), moved.float(), scheme_named(scheme).activation
        )
        exact, w = x @ weight.T, tokens.weight.double()
        signal, noise = (w @ part.square().sum(dim=1) for part in (exact, exact + bias - output.double()))
        expected = float(10 * torch.log10(signal / noise))
        assert decisions[linear]["output_snr_db"] == pytest.approx(expected, abs=RECORDED_DB)
        assert decisions[linear]["output_snr_db"] > decisions[linear]["rtn_output_snr_db"]


def test_producers_lose_the_mean_and_biases_get_it(
    smoothed: Path, offset_stats: ActivationStats, tmp_path: Path
) -> None:
    qparams = _quantize(smoothed, tmp_path / "out", offset_stats, center=True, bias_correction=False)
    component = open_weights(smoothed).components["transformer"]
    topology = component.topology
    expected: dict[str, Tensor] = {}

    def current(name: str) -> Tensor:
        return expected[name] if name in expected else component.plain([name])[name].float()

    for group in topology.groups:
        offset, mean = offset_of(topology, group), qparams.mean("transformer", group)
        assert (offset is None) == (mean is None)
        if offset is None or mean is None:
            mean = qparams.input_mean("transformer", group)
            assert mean is not None
            assert torch.equal(mean, mean.bfloat16().float())
        else:
            before = current(offset.tensor)
            expected[offset.tensor] = offset.replaced(before, offset.of(before) - mean / component.gain_behind(group))
        for linear in group.reads:
            expected[f"{linear}.bias"] = current(f"{linear}.bias") + component.linear(linear).float() @ mean
    assert qparams.replaced("transformer") == expected.keys()
    for name, tensor in qparams.replacements("transformer", expected).items():
        assert torch.allclose(tensor, expected[name], rtol=1e-5, atol=1e-5), name


def test_it_is_left_out_where_it_does_not_win(smoothed: Path, stats: ActivationStats, tmp_path: Path) -> None:
    """Random tokens have a mean only by chance."""
    with_it, without = (_quantize(smoothed, tmp_path / f"{center}", stats, center=center) for center in (True, False))
    found, before = (it.decisions("transformer") for it in (with_it, without))
    centered = [linear for linear, decision in found.items() if "centered" in decision]
    assert len(centered) < len(found) / 4
    for linear, decision in found.items():
        if linear not in centered:
            assert decision == before[linear]
        else:
            assert decision["output_snr_db"] > before[linear]["rtn_output_snr_db"]


def test_without_statistics_there_is_no_mean(smoothed: Path, tmp_path: Path) -> None:
    qparams = _quantize(smoothed, tmp_path / "out", None, center=True)
    assert qparams.artifact.manifest.settings["center"] is False
    assert not qparams.replaced("transformer")


def test_a_value_projection_has_both_its_correction_and_what_its_reader_was_centered_by(
    smoothed: Path, i2v_model: Path, make_offset_stats: Callable[..., ActivationStats], tmp_path: Path
) -> None:
    """The value projection itself must not be centered, or it has no correction."""
    stats = make_offset_stats(i2v_model, "text")
    both, corrected = (_quantize(smoothed, tmp_path / f"{center}", stats, center=center) for center in (True, False))
    topology = open_weights(smoothed).components["transformer"].topology
    decisions, seen = both.decisions("transformer"), 0
    for group in topology.groups:
        values = group.name.replace("attn2.out", "attn2.to_v")
        mean = both.mean("transformer", group)
        if values != group.name and mean is not None and decisions[values]["bias_corrected"]:
            name = f"{values}.bias"
            ours, expected = (it.replacements("transformer", [name])[name] for it in (both, corrected))
            assert torch.allclose(ours, expected - mean, atol=1e-5)
            seen += 1
    assert seen
