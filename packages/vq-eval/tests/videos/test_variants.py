from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vq_core.artifacts.kept import exact_weight
from vq_core.artifacts.qparams import open_qparams
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.quantize import snr_db
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.testing.tiny_models import Variant
from vq_eval.videos.fake_quant_linear import FakeQuantLinear, GainLinear

MODELS: tuple[Variant, ...] = ("t2v", "i2v", "ti2v-5b")
NOT_ROTATED = torch.ones(1, 1, dtype=torch.float64)

Artifacts = Callable[[Variant], tuple[Path, Path]]
MakeTwins = Callable[[Variant], Any]  # `conftest.Twins`
TinyModel = Callable[[Variant], Path]


@pytest.mark.parametrize("variant", MODELS)
def test_smoothed_is_the_same_function_to_fp32_rounding(twins: MakeTwins, variant: Variant) -> None:
    case = twins(variant)
    smoothed = case.smoothed()
    assert snr_db(case.call(case.full), case.call(smoothed)) > 100
    linears = {linear.name: smoothed.get_submodule(linear.name) for linear in case.weights.topology.linears}
    untouched = {
        name
        for name, linear in linears.items()
        if isinstance(linear, nn.Linear) and torch.equal(linear.weight, case.full.get_submodule(name).weight)
    }
    # Theirs is the only input that cannot be smoothed.
    assert untouched == {f"blocks.{block}.ffn.net.2" for block in range(case.weights.topology.num_blocks)}


@pytest.mark.parametrize("block", [0, 2])
@pytest.mark.parametrize("linear", ["attn1.to_q", "attn1.to_v", "ffn.net.0.proj"])
def test_without_one_gain_it_is_another_function(twins: MakeTwins, linear: str, block: int) -> None:
    case = twins("i2v")
    smoothed = case.smoothed()
    gained = smoothed.get_submodule(f"blocks.{block}.{linear}")
    assert isinstance(gained, GainLinear)
    smoothed.set_submodule(f"blocks.{block}.{linear}", gained.linear)
    assert snr_db(case.call(case.full), case.call(smoothed)) < 50


@pytest.mark.parametrize("name", ["blocks.1.norm2.weight", "condition_embedder.text_embedder.linear_2.weight"])
def test_without_one_fold_it_is_another_function(twins: MakeTwins, name: str) -> None:
    case = twins("i2v")
    smoothed = case.smoothed()
    with torch.no_grad():
        smoothed.get_parameter(name).copy_(case.full.get_parameter(name))
    assert snr_db(case.call(case.full), case.call(smoothed)) < 50


def test_parameters_of_a_bfloat16_model_keep_their_dtypes(twins: MakeTwins, tiny_model: TinyModel) -> None:
    case = twins("i2v")
    case.full = VideoPipeline(str(tiny_model("i2v")), "cpu", dtype=torch.bfloat16).transformers["transformer"]
    full, smoothed = case.full, case.smoothed()
    for name, parameter in smoothed.named_parameters():
        assert parameter.dtype == full.get_parameter(name.replace(".linear.", ".")).dtype
    assert 25 < snr_db(case.call(full), case.call(smoothed)) < 60  # what bfloat16 costs, not what an error would
    simulated = case.quantized(full)
    assert 10 < snr_db(case.call(full), case.call(simulated)) < 40


@pytest.mark.parametrize("variant", MODELS)
def test_every_block_linear_is_simulated_with_its_own_tensors(twins: MakeTwins, variant: Variant) -> None:
    case = twins(variant)
    simulated = case.quantized(case.full)
    topology = case.weights.topology
    replaced = {name for name, module in simulated.named_modules() if isinstance(module, FakeQuantLinear)}
    assert replaced == {linear.name for linear in topology.linears}
    for name in replaced:
        module = simulated.get_submodule(name)
        assert isinstance(module, FakeQuantLinear)
        codes, scale, *_ = case.qparams.linear("transformer", name)
        assert torch.equal(module.codes, codes)
        assert torch.equal(module.scale, scale)
        assert torch.equal(module.bias, nearest_bf16(case.weights.plain([f"{name}.bias"])[f"{name}.bias"]))
        gain = topology.gain_of(name)
        if gain is None:
            assert module.gain is None
        else:
            assert module.gain is not None
            assert torch.equal(module.gain, case.weights.gain(gain))
    for name, parameter in simulated.named_parameters():
        assert torch.equal(parameter, case.weights.plain([name])[name].float())


@pytest.mark.parametrize("variant", MODELS)
def test_fake_quant_is_the_smoothed_model_with_rounded_weights_and_inputs(twins: MakeTwins, variant: Variant) -> None:
    """Against plain linears with dequantized weights whose inputs are rounded by a hook, in fp64."""
    case = twins(variant)
    reference = case.smoothed()
    for linear in case.weights.topology.linears:
        module = reference.get_submodule(linear.name)
        plain = module.linear if isinstance(module, GainLinear) else module
        assert isinstance(plain, nn.Linear)
        codes, scale, *_ = case.qparams.linear("transformer", linear.name)
        plain.weight.data = codes.float() * scale
        plain.bias.data = nearest_bf16(plain.bias.data)
        plain.register_forward_pre_hook(_round_input)
    full, simulated = case.call(case.full), case.call(case.quantized(case.full))
    noise = snr_db(full, simulated)
    assert noise < 40
    assert snr_db(case.call(reference), simulated) > noise + 20  # what is left: codes on the edge of rounding


def test_a_rotated_simulation_rounds_in_the_rotated_basis(
    twins: MakeTwins, artifacts: Artifacts, write_qparams: Callable[..., Path], tmp_path: Path
) -> None:
    """Against plain linears with dequantized weights whose inputs are rotated, rounded and rotated back, in fp64."""
    case = twins("i2v")
    case.qparams = open_qparams(write_qparams(artifacts("i2v")[0], tmp_path / "rotated", rotation=64))
    reference, groups = case.smoothed(), set()
    for linear in case.weights.topology.linears:
        module = reference.get_submodule(linear.name)
        plain = module.linear if isinstance(module, GainLinear) else module
        codes, scale, group, _ = case.qparams.linear("transformer", linear.name)
        matrix = _hadamard(group)
        plain.weight.data = _turned(codes.double() * scale, matrix).float()
        plain.bias.data = nearest_bf16(plain.bias.data)
        plain.register_forward_pre_hook(partial(_round_input, matrix=matrix))
        groups.add(group)
    assert min(groups) > 1
    full, simulated = case.call(case.full), case.call(case.quantized(case.full))
    noise = snr_db(full, simulated)
    assert noise < 40
    assert snr_db(case.call(reference), simulated) > noise + 20


def _hadamard(size: int) -> Tensor:
    h4 = torch.tensor([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]], dtype=torch.float64) / 2
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.kron(matrix, h4)
    return matrix


def _turned(x: Tensor, matrix: Tensor) -> Tensor:
    return (x.unflatten(-1, (-1, len(matrix))) @ matrix).flatten(-2)


def _round_input(module: nn.Module, inputs: tuple[Tensor, ...], matrix: Tensor = NOT_ROTATED) -> Tensor:
    x = _turned(inputs[0].double(), matrix)
    scale = x.abs().amax(-1, keepdim=True) / 127
    return _turned((x / scale).round() * scale, matrix).float()


def test_it_does_not_matter_whether_the_model_was_smoothed_before(twins: MakeTwins) -> None:
    case = twins("i2v")
    from_full, from_smoothed = case.quantized(case.full), case.quantized(case.smoothed())
    assert from_full.state_dict().keys() == from_smoothed.state_dict().keys()
    for name, tensor in from_full.state_dict().items():
        assert torch.equal(tensor, from_smoothed.state_dict()[name])


def test_corrected_biases_are_used(
    twins: MakeTwins, artifacts: Artifacts, write_qparams: Callable[..., Path], tmp_path: Path
) -> None:
    case = twins("t2v")
    before = case.quantized(case.full)
    case.qparams = open_qparams(write_qparams(artifacts("t2v")[0], tmp_path / "corrected", bias_shift=0.25))
    after = case.quantized(case.full)
    for linear in case.weights.topology.linears:
        bias = case.weights.plain([f"{linear.name}.bias"])[f"{linear.name}.bias"].float()
        assert torch.equal(after.get_submodule(linear.name).bias, nearest_bf16(bias + 0.25))
    assert not torch.equal(case.call(before), case.call(after))


@pytest.mark.parametrize("smoothed_before", [False, True])
def test_centered_with_every_linear_ignored_is_the_function_of_the_model(
    twins: MakeTwins, write_qparams: Callable[..., Path], tmp_path: Path, smoothed_before: bool
) -> None:
    case = twins("i2v")
    case.qparams = open_qparams(write_qparams(case.weights_path, tmp_path / "centered", center=True))
    linears = tuple(linear.name for linear in case.weights.topology.linears)
    simulated = case.quantized(case.smoothed() if smoothed_before else case.full, linears)
    assert snr_db(case.call(case.full), case.call(simulated)) > 100


def test_centered_is_the_function_of_the_model_to_what_rounding_leaves(
    twins: MakeTwins, write_qparams: Callable[..., Path], tmp_path: Path
) -> None:
    case = twins("i2v")
    before = snr_db(case.call(case.full), case.call(case.quantized()))
    case.qparams = open_qparams(write_qparams(case.weights_path, tmp_path / "centered", center=True))
    assert snr_db(case.call(case.full), case.call(case.quantized())) > before - 6


@pytest.mark.parametrize("smoothed_before", [False, True])
def test_with_every_linear_kept_the_function_is_that_of_the_model_to_what_bfloat16_leaves(
    twins: MakeTwins, write_qparams: Callable[..., Path], tmp_path: Path, smoothed_before: bool
) -> None:
    case = twins("i2v")
    linears = [linear.name for linear in case.weights.topology.linears]
    path = write_qparams(case.weights_path, tmp_path / "kept", center=True, bias_shift=0.25, kept=linears)
    case.qparams = open_qparams(path)
    simulated = case.quantized(case.smoothed() if smoothed_before else case.full)
    assert not any(isinstance(module, FakeQuantLinear | GainLinear) for module in simulated.modules())
    assert snr_db(case.call(case.full), case.call(simulated)) > 40


def test_kept_linears_have_neighbours_that_are_quantized(
    twins: MakeTwins, write_qparams: Callable[..., Path], tmp_path: Path
) -> None:
    case, kept = twins("i2v"), ["blocks.1.ffn.net.0.proj", "blocks.0.attn2.to_q"]
    case.qparams = open_qparams(write_qparams(case.weights_path, tmp_path / "kept", kept=kept))
    simulated = case.quantized(ignored=(kept[0],))
    replaced = {name for name, module in simulated.named_modules() if isinstance(module, FakeQuantLinear)}
    assert replaced == {linear.name for linear in case.weights.topology.linears} - set(kept)
    for name in kept:
        expected = exact_weight(case.weights, name)
        assert torch.equal(simulated.get_submodule(name).weight, nearest_bf16(expected))


@pytest.mark.parametrize("smoothed_before", [False, True])
def test_with_every_linear_ignored_the_function_is_that_of_the_model(twins: MakeTwins, smoothed_before: bool) -> None:
    case = twins("i2v")
    linears = tuple(linear.name for linear in case.weights.topology.linears)
    simulated = case.quantized(case.smoothed() if smoothed_before else case.full, linears)
    assert snr_db(case.call(case.full), case.call(simulated)) > 100


@pytest.mark.parametrize("smoothed_before", [False, True])
@pytest.mark.parametrize("place", ["attn1.to_q", "attn1.to_out.0", "ffn.net.0.proj", "ffn.net.2"])
def test_an_ignored_linear_is_that_of_the_smoothed_model(twins: MakeTwins, place: str, smoothed_before: bool) -> None:
    case = twins("i2v")
    ignored = f"blocks.1.{place}"
    smoothed = case.smoothed()
    simulated = case.quantized(smoothed if smoothed_before else case.full, (ignored,))
    ours, expected = (it.get_submodule(ignored) for it in (simulated, smoothed))
    assert type(ours) is type(expected)
    assert ours.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name])
    replaced = {name for name, module in simulated.named_modules() if isinstance(module, FakeQuantLinear)}
    assert replaced == {linear.name for linear in case.weights.topology.linears} - {ignored}
