import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vq_core.artifacts.qparams import open_qparams
from vq_core.errors import VqError
from vq_core.testing.tiny_models import Variant
from vq_eval.layers.figures import places_of
from vq_eval.layers.lockstep import Lockstep
from vq_eval.layers.noise_meter import NoiseMeter, SumRow, blocks_of
from vq_eval.layers.schema import Noise

MakeCase = Callable[..., Any]  # `conftest.Twins`
Measure = Callable[[Any, nn.Module], list[SumRow]]


def db(noise: Noise | None) -> float:
    return math.inf if noise is None or noise.snr_db is None else noise.snr_db


@pytest.mark.parametrize("variant", ["i2v", "vace", "ti2v-5b"])
@pytest.mark.parametrize("across", [False, True])
def test_what_smoothing_folds_is_no_error_anywhere(
    twins: MakeCase, measured: Measure, variant: Variant, across: bool
) -> None:
    """The smoothed twin in full precision is the same function, and every factor between the two is taken out."""
    tiny = twins(variant, across=across)
    places = places_of(measured(tiny, tiny.smoothed()))
    linears = [place for place in places if place.kind == "linear"]
    assert [place.name for place in linears] == [linear.name for linear in tiny.weights.topology.linears]
    for place in places:
        assert min(db(place.own), db(place.in_place)) > 80, place.name
    assert max(db(place.rounding) for place in linears) < 50  # the baseline is quantized whatever the twin is


@pytest.mark.parametrize("variant", ["i2v", "vace"])
def test_what_centering_moves_is_no_error_anywhere(
    twins: MakeCase, measured: Measure, write_qparams: Callable[..., Path], variant: Variant, tmp_path: Path
) -> None:
    """The centered twin in full precision is the same function, and every mean between the two is taken out."""
    tiny = twins(variant)
    tiny.qparams = open_qparams(write_qparams(tiny.weights_path, tmp_path / "centered", center=True))
    everything = tuple(linear.name for linear in tiny.weights.topology.linears)
    twin = tiny.quantized(ignored=everything)
    assert not torch.equal(twin.blocks[0].norm2.bias, tiny.smoothed().blocks[0].norm2.bias)
    for place in places_of(measured(tiny, twin)):
        assert min(db(place.own), db(place.in_place)) > 80, place.name


def test_figures_are_those_of_two_runs_one_after_the_other(twins: MakeCase, measured: Measure) -> None:
    tiny = twins("i2v")
    twin = tiny.quantized()
    rows = {(row.kind, row.name): row for row in measured(tiny, twin)}
    (full_io, output), (twin_io, twin_output) = recorded(tiny, tiny.full), recorded(tiny, twin)
    assert rows["output", ""].in_place == pytest.approx(power(twin_output - output), rel=1e-5)
    topology = tiny.weights.topology
    gains = {group.name: tiny.weights.input_gain(group) for group in topology.groups}
    for linear in topology.linears:
        name, row = linear.name, rows["linear", linear.name]
        (x, y), (_, twin_y) = full_io[name], twin_io[name]
        written = torch.ones(linear.out_features)
        for group in topology.groups:
            if group.sink is not None and name in getattr(group.sink, "linears", ()):
                written = gains[group.name]
        assert row.signal == pytest.approx(power(y), rel=1e-5)
        assert row.in_place == pytest.approx(power(twin_y / written - y), rel=1e-4)
        # On full precision's own input, smoothed by the group's gain, whoever applies it.
        codes, scale, *_ = tiny.qparams.linear("transformer", name)
        smoothed = x.double() * gains[topology.group_of(name).name]
        step = smoothed.abs().amax(-1, keepdim=True) / 127
        bias = tiny.weights.plain([f"{name}.bias"])[f"{name}.bias"].double()
        own = ((smoothed / step).round() * step) @ (codes.double() * scale.double()).T + bias
        assert row.own == pytest.approx(power(own / written - y), rel=2e-2)  # codes on the edge of rounding
        weight = tiny.full.get_parameter(f"{name}.weight").detach().double()
        weight_scale = weight.abs().amax(-1, keepdim=True) / 127
        plain_step = x.double().abs().amax(-1, keepdim=True) / 127
        rounded = ((x / plain_step).round() * plain_step) @ ((weight / weight_scale).round() * weight_scale).T
        rounded += tiny.full.get_parameter(f"{name}.bias").detach().double()
        assert row.rounding == pytest.approx(power(rounded - y), rel=0.25)  # our scales are rounded up to bfloat16
    for block in blocks_of([linear.name for linear in topology.linears]):
        (x, y), (_, twin_y) = full_io[block], twin_io[block]
        row = rows["block", block]
        assert (row.signal, row.own_signal) == pytest.approx((power(y), power(y - x)), rel=1e-5)
        assert row.in_place == pytest.approx(power(twin_y - y), rel=1e-4)
    # Nothing quantized comes before the first block.
    assert rows["block", "blocks.0"].own == pytest.approx(rows["block", "blocks.0"].in_place)
    assert rows["block", "blocks.2"].own < rows["block", "blocks.2"].in_place


def recorded(tiny: Any, transformer: nn.Module) -> tuple[dict[str, tuple[Tensor, Tensor]], Tensor]:
    """First input and output of every module by name, and the transformer's output."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        if args and isinstance(output, Tensor) and output.ndim == 3:
            seen[name] = (args[0].flatten(0, -2), output.flatten(0, -2))

    hooks = [module.register_forward_hook(partial(keep, name)) for name, module in transformer.named_modules()]
    output = tiny.call(transformer)
    for hook in hooks:
        hook.remove()
    return seen, output


def power(x: Tensor) -> float:
    return float(x.double().square().sum())


def test_one_slice_of_tokens_or_many_give_the_same(
    twins: MakeCase, measured: Measure, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = twins("t2v")
    twin = tiny.quantized()
    whole = measured(tiny, twin)
    monkeypatch.setattr("vq_eval.layers.noise_meter.TOKENS_AT_ONCE", 3)
    for ours, theirs in zip(measured(tiny, twin), whole, strict=True):
        assert (ours.own, ours.in_place, ours.rounding) == pytest.approx(
            (theirs.own, theirs.in_place, theirs.rounding), rel=1e-3
        )


def test_calls_that_were_not_planned_are_an_error(twins: MakeCase, meter_of: Callable[..., NoiseMeter]) -> None:
    tiny = twins("t2v")
    twin = tiny.quantized()
    meter = meter_of(tiny, twin)
    lockstep = Lockstep(tiny.full, twin, meter.names, meter.compare)
    with pytest.raises(RuntimeError, match="at timestep 300, which was not planned"), lockstep.attached():
        tiny.call(tiny.full, 300.0)
    meter = meter_of(tiny, twin)
    with pytest.raises(RuntimeError, match="less often than"):
        meter.finish()


def test_nan_is_refused_by_name(twins: MakeCase, measured: Measure) -> None:
    tiny = twins("t2v")
    twin = tiny.quantized()
    twin.get_submodule("blocks.1.ffn.net.2").get_buffer("scale")[3] = math.nan
    with pytest.raises(VqError, match=r"blocks\.1\.ffn\.net\.2 of transformer gives NaN or Inf in bucket 5 \(cond\)"):
        measured(tiny, twin)
