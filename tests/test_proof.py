"""The proof suite at a reduced size: its generator, LLMC's methods, its SNR, its verdicts, and that `auto` pays."""

import math
from dataclasses import replace

import pytest
import torch

from proof import llmc
from proof.figures import relative_error
from proof.methods import AUTO, METHODS, REFERENCE, ROTATED, RTN, Solved
from proof.pair import PAIR_METHODS, RESCALED, RESCALED_AND_ROTATED
from proof.real import EASY, HARD, HARDER, real_verdicts
from proof.suite import Figure, measure_seed
from proof.synthetic import Layer, Sizes, feed_forward, layers
from proof.verdicts import Verdict, verdicts
from vq_core.artifacts.stats import Tokens
from vq_core.numerics.quantize import dequantize, quantize_weight
from vq_core.numerics.scheme import FP8, INT8, NumberFormat
from vq_core.sampling.schedule import BUCKETS
from vq_wan_tiny.grade import Share
from wan_tiny.measuring import FULL
from wan_tiny.table_report import Line, Mean

SMALL = Sizes(channels=128, hidden=320, fit=1024, held_out=256, test=256)
BFLOAT16 = 2.0**-8


@pytest.fixture(scope="module")
def figures() -> list[Figure]:
    needed = {name: METHODS[name] for name in (RTN, REFERENCE, AUTO, ROTATED)}
    pairs = {name: PAIR_METHODS[name] for name in (RTN, AUTO, RESCALED, RESCALED_AND_ROTATED)}
    return measure_seed(0, SMALL, needed, pairs)


@pytest.fixture(scope="module")
def small_layers() -> list[Layer]:
    return [*layers(0, SMALL), feed_forward(0, SMALL).down_layer]


def verdict(figures: list[Figure], beginning: str) -> Verdict:
    (found,) = (one for one in verdicts(figures) if one.demand.startswith(beginning))
    return found


def changed(figures: list[Figure], method: str, scheme: str, **values: object) -> list[Figure]:
    """The first figure of `method` and `scheme` replaced."""
    index = next(i for i, figure in enumerate(figures) if (figure.method, figure.scheme) == (method, scheme))
    return [*figures[:index], replace(figures[index], **values), *figures[index + 1 :]]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "demand",
    [
        "INT8, layers with a fold: auto above RTN",
        "FP8, every layer: auto above RTN",
        "INT8, feed-forward: auto with the rescale above RTN",
        "all schemes, every linear",
        "W4A8, every layer",
        "W6A8, every layer",
        "the same in any bucket",
    ],
)
def test_auto_meets_the_requirements_on_small_layers(figures: list[Figure], demand: str) -> None:
    found = verdict(figures, demand)
    assert found.met, found


@pytest.mark.parametrize(
    ("demand", "scheme", "values"),
    [
        ("INT8, layers with a fold: auto above RTN", "int8", {"test_db": 20.0}),
        ("INT8, layers with a fold: auto above Smooth", "int8", {"test_db": 30.0}),
        ("INT8, layers with a fold: auto, dB", "int8", {"test_db": 38.4}),
        ("FP8, every layer: auto above RTN", "fp8", {"test_db": 20.0}),
        ("FP8, layers with a fold: auto above RTN", "fp8", {"test_db": 20.0}),
        ("FP8, layers with a fold: auto, dB", "fp8", {"test_db": 25.0}),
        ("W4A8, every layer: auto above", "w4a8", {"test_db": 5.0}),
        ("W6A8, every layer: auto above", "w6a8", {"test_db": 5.0}),
        ("all schemes, every linear", "fp8", {"held_out": (1.0, 1e-9, 1e-9)}),
        ("the same in any bucket", "fp8", {"held_out_buckets": ((1.0, *[0.0] * 7), *[(0.0,) * 8] * 2)}),
        ("layers with a fold, and all in FP8: what drift", "fp8", {"drifted_db": 0.0}),
    ],
)
def test_a_single_bad_figure_misses_its_demand(
    figures: list[Figure], demand: str, scheme: str, values: dict[str, object]
) -> None:
    bad = changed(figures, AUTO, scheme, **values)
    found = verdict(bad, demand)
    assert not found.met
    assert found.where == f"q, k, v, {scheme.upper()}, seed 0"


def test_rotation_must_pay_with_a_fold_and_without(figures: list[Figure]) -> None:
    without_fold = next(f for f in figures if (f.method, f.scheme, f.foldable) == (ROTATED, "int8", False))
    for demand, bad in (
        ("INT8, layers with a fold: auto with rotation", changed(figures, ROTATED, "int8", test_db=41.9)),
        (
            "INT8, layers without a fold: auto with rotation",
            [replace(f, test_db=35.9) if f is without_fold else f for f in figures],
        ),
    ):
        assert not verdict(bad, demand).met


def test_the_rescale_must_pay(figures: list[Figure]) -> None:
    bad = changed(figures, RESCALED, "int8", test_db=1.0)
    assert not verdict(bad, "INT8, feed-forward: auto with the rescale above RTN").met
    assert not verdict(bad, "INT8, feed-forward: auto with the rescale above auto without").met


def line(model: str, candidate: str, psnr: float, direction: float = 1.0) -> Line:
    share = Share(direction, direction - 0.02, min(1.0, direction + 0.02))
    return Line(model, candidate, Mean(psnr, psnr, psnr), None, {"direction": share})


GOOD = {
    (EASY, FULL): line(EASY, FULL, 99.0),
    (EASY, "INT8 auto ComfyUI"): line(EASY, "INT8 auto ComfyUI", 51.5),
    (EASY, "W6A8 auto"): line(EASY, "W6A8 auto", 50.0),
    (EASY, "W4A8 auto"): line(EASY, "W4A8 auto", 36.0),
    (HARD, FULL): line(HARD, FULL, 99.0),
    (HARD, "FP8 auto"): line(HARD, "FP8 auto", 43.0),
    (HARD, "INT8 auto"): line(HARD, "INT8 auto", 50.0),
    (HARD, "INT8 auto ComfyUI"): line(HARD, "INT8 auto ComfyUI", 50.0),
    (HARD, "INT8 auto native"): line(HARD, "INT8 auto native", 53.0),
    (HARDER, FULL): line(HARDER, FULL, 99.0),
    (HARDER, "INT8 auto"): line(HARDER, "INT8 auto", 32.0),
    (HARDER, "INT8 auto ComfyUI"): line(HARDER, "INT8 auto ComfyUI", 44.0),
    (HARDER, "INT8 auto native"): line(HARDER, "INT8 auto native", 44.0),
    (HARDER, "INT8 auto native mixed"): line(HARDER, "INT8 auto native mixed", 46.0),
    (HARDER, "INT8+FP8 auto native"): line(HARDER, "INT8+FP8 auto native", 46.0),
}


def test_videos_that_meet_every_requirement() -> None:
    assert all(one.met for one in real_verdicts(list(GOOD.values())))


@pytest.mark.parametrize(
    ("bad", "missed"),
    [
        (line(HARD, "FP8 auto", 51.1), "INT8 auto above FP8 auto"),
        (line(HARD, "INT8 auto ComfyUI", 49.9), "INT8 auto ComfyUI above auto"),
        (line(HARD, "INT8 auto native", 52.9), "INT8 auto native, PSNR"),
        (line(HARDER, "INT8 auto", 32.1), "INT8 auto, without rotation"),
        (line(HARDER, "INT8 auto ComfyUI", 43.9), "INT8 auto ComfyUI, PSNR"),
        (line(HARDER, "INT8 auto native", 43.9), "INT8 auto native, PSNR"),
        (line(HARDER, "INT8 auto native mixed", 45.9), "INT8 auto native mixed, PSNR"),
        (line(HARDER, "INT8+FP8 auto native", 45.9), "INT8+FP8 auto native, PSNR"),
        (line(HARDER, "INT8+FP8 auto native", 46.0, 0.97), "INT8+FP8 auto native: share"),
        (line(EASY, "W6A8 auto", 49.9), "W6A8 auto below INT8 auto ComfyUI"),
        (line(EASY, "W4A8 auto", 35.9), "W4A8 auto, PSNR"),
        (line(EASY, "W4A8 auto", 36.0, 0.97), "W4A8 auto: share of right directions"),
        (line(HARD, "INT8 auto", 50.0, 0.97), "INT8 auto: share of right directions"),
        (line(HARD, "INT8 auto ComfyUI", 50.0, 0.97), "INT8 auto ComfyUI: share"),
        (line(HARDER, "INT8 auto ComfyUI", 44.0, 0.97), "INT8 auto ComfyUI: share"),
        (line(HARDER, "INT8 auto native", 44.0, 0.97), "INT8 auto native: share"),
    ],
)
def test_a_video_that_is_worse_misses_its_requirement_alone(bad: Line, missed: str) -> None:
    lines = GOOD | {(bad.model, bad.candidate): bad}
    (found,) = (one for one in real_verdicts(list(lines.values())) if not one.met)
    assert found.demand.startswith(missed)
    assert found.where == bad.model


def test_draws_are_the_seed_s_and_independent(small_layers: list[Layer]) -> None:
    again, other = layers(0, SMALL), layers(1, SMALL)
    for layer, same, different in zip(small_layers, again, other, strict=False):
        assert torch.equal(layer.draws.test.rows, same.draws.test.rows)
        assert torch.equal(layer.weights[0], same.weights[0])
        assert not torch.equal(layer.draws.test.rows, different.draws.test.rows)
        assert not torch.equal(layer.draws.fit.rows[: SMALL.test], layer.draws.test.rows)
        assert torch.equal(layer.draws.test.bucket.bincount(), torch.full((BUCKETS,), SMALL.test // BUCKETS))


def test_inputs_are_hard_to_quantize(figures: list[Figure], small_layers: list[Layer]) -> None:
    plain = {figure.layer: figure.test_db for figure in figures if (figure.method, figure.scheme) == (RTN, "int8")}
    assert all(15 < plain[layer.name] < 34 for layer in small_layers)
    spiky = small_layers[-1].draws.fit.rows.float()
    crest = spiky.abs().amax(dim=1) / spiky.square().mean(dim=1).sqrt()
    assert float(crest.max()) > 2 * float(crest.median())


def test_snr_is_that_of_the_literal_formula() -> None:
    draw = torch.Generator().manual_seed(3)
    x, weight = torch.randn(16, 6, generator=draw).bfloat16(), torch.randn(5, 6, generator=draw).bfloat16()
    tokens = Tokens(x, torch.ones(16), torch.arange(16) % BUCKETS)
    gain, shift = torch.rand(6, generator=draw) + 0.5, torch.randn(5, generator=draw)
    quantized = dequantize(quantize_weight(weight.float() / gain, NumberFormat.INT8))
    layer = Layer("one", True, (weight,), feed_forward(0, SMALL).draws)
    found = relative_error(layer, tokens, Solved(gain, [quantized], [shift]), INT8)

    noise = signal = 0.0
    for row in x.float():
        smoothed = row * gain
        scale = smoothed.abs().max() / 127
        y_hat = (smoothed / scale).round().mul(scale).double() @ quantized.double().T + shift.double()
        y = row.double() @ weight.double().T
        noise, signal = noise + float((y - y_hat).square().sum()), signal + float(y.square().sum())
    assert found.snr_db == pytest.approx(10 * math.log10(signal / noise), abs=1e-6)
    assert len(found.buckets[0]) == BUCKETS


def test_llmc_s_smoothquant_is_ours_in_bfloat16(small_layers: list[Layer]) -> None:
    layer = small_layers[0]
    after = llmc.smoothquant(layer.weights, layer.draws.fit, INT8, 0.5)
    ours = METHODS[REFERENCE](layer, INT8)
    torch.testing.assert_close(after.gain, ours.gain, rtol=3 * BFLOAT16, atol=0)


def test_llmc_s_awq_keeps_the_best_ratio_of_the_first_call() -> None:
    """Two calls that want opposite ratios: the one with the noisiest bucket decides, whatever the other says."""
    draw = torch.Generator().manual_seed(0)
    channels, count = 64, 256
    first = torch.randn(count, channels, generator=draw)
    second = torch.randn(count, channels, generator=draw)
    second[:, :4] *= 60
    weight = torch.randn(32, channels, generator=draw)
    weight[:, :4] /= 20
    weights = [weight.bfloat16()]

    def tokens(noisiest: torch.Tensor, other: torch.Tensor) -> Tokens:
        rows = torch.cat([other, noisiest]).bfloat16()
        return Tokens(rows, torch.ones(2 * count), torch.tensor([0] * count + [BUCKETS - 1] * count))

    def spread(gain: torch.Tensor) -> float:
        return float(gain.max() / gain.min())

    flat = llmc.awq(weights, tokens(first, second), INT8)
    steep = llmc.awq(weights, tokens(second, first), INT8)
    assert spread(steep.gain) > 2 * spread(flat.gain)


def test_llmc_rounds_in_bfloat16() -> None:
    weight = torch.randn(16, 64, generator=torch.Generator().manual_seed(1)).bfloat16()
    for scheme in (INT8, FP8):
        again = llmc.rounded(weight, scheme.weight)
        ours = dequantize(quantize_weight(weight, scheme.weight))
        step = weight.float().abs().amax(dim=1, keepdim=True) / (127 if scheme is INT8 else 14)
        assert not torch.equal(again, ours)
        assert bool(((again - weight.float()).abs() <= step).all())
