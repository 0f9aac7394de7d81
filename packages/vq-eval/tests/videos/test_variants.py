from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.weights import SmoothedTransformer, open_weights
from vq_core.numerics.quantize import snr_db
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.testing.tiny_models import IMAGE_DIM, TEXT_DIM, Variant
from vq_eval.videos.fake_quant_linear import FakeQuantLinear, GainLinear
from vq_eval.videos.variants import apply_fake_quant, apply_smoothed

MODELS: tuple[Variant, ...] = ("t2v", "i2v", "ti2v-5b")

Artifacts = Callable[[Variant], tuple[Path, Path]]
TinyModel = Callable[[Variant], Path]


class Opened:
    """A tiny model's transformer in float32 and the artifacts made of it."""

    def __init__(self, model: Path, weights: Path, qparams: Path) -> None:
        self.full = VideoPipeline(str(model), "cpu").transformers["transformer"]
        self.weights: SmoothedTransformer = open_weights(weights).components["transformer"]
        self.qparams: QuantParams = open_qparams(qparams)

    def smoothed(self) -> nn.Module:
        transformer = deepcopy(self.full)
        apply_smoothed(transformer, self.weights, "cpu")
        return transformer

    def simulated(self, start: nn.Module, ignored: tuple[str, ...] = ()) -> nn.Module:
        transformer = deepcopy(start)
        apply_fake_quant(transformer, self.weights, self.qparams, "transformer", "cpu", ignored)
        return transformer


@pytest.fixture
def opened(tiny_model: TinyModel, artifacts: Artifacts) -> Callable[[Variant], Opened]:
    return lambda variant: Opened(tiny_model(variant), *artifacts(variant))


@torch.no_grad()
def velocity(transformer: nn.Module) -> Tensor:
    """Output of a Wan transformer for random latents, text and image."""
    rng = torch.Generator().manual_seed(0)
    config = transformer.config
    image = torch.randn(1, 17, IMAGE_DIM, generator=rng) if config.image_dim else None
    dtype = transformer.patch_embedding.weight.dtype
    (output,) = transformer(
        hidden_states=torch.randn(1, config.in_channels, 2, 8, 8, generator=rng).to(dtype),
        timestep=torch.tensor([700]),
        encoder_hidden_states=torch.randn(1, 512, TEXT_DIM, generator=rng).to(dtype),
        encoder_hidden_states_image=None if image is None else image.to(dtype),
        return_dict=False,
    )
    return output


@pytest.mark.parametrize("variant", MODELS)
def test_smoothed_is_the_same_function_to_fp32_rounding(opened: Callable[[Variant], Opened], variant: Variant) -> None:
    case = opened(variant)
    smoothed = case.smoothed()
    assert snr_db(velocity(case.full), velocity(smoothed)) > 100
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
def test_without_one_gain_it_is_another_function(opened: Callable[[Variant], Opened], linear: str, block: int) -> None:
    case = opened("i2v")
    smoothed = case.smoothed()
    gained = smoothed.get_submodule(f"blocks.{block}.{linear}")
    assert isinstance(gained, GainLinear)
    smoothed.set_submodule(f"blocks.{block}.{linear}", gained.linear)
    assert snr_db(velocity(case.full), velocity(smoothed)) < 50


@pytest.mark.parametrize("name", ["blocks.1.norm2.weight", "condition_embedder.text_embedder.linear_2.weight"])
def test_without_one_fold_it_is_another_function(opened: Callable[[Variant], Opened], name: str) -> None:
    case = opened("i2v")
    smoothed = case.smoothed()
    with torch.no_grad():
        smoothed.get_parameter(name).copy_(case.full.get_parameter(name))
    assert snr_db(velocity(case.full), velocity(smoothed)) < 50


def test_parameters_of_a_bfloat16_model_keep_their_dtypes(
    opened: Callable[[Variant], Opened], tiny_model: TinyModel
) -> None:
    case = opened("i2v")
    case.full = VideoPipeline(str(tiny_model("i2v")), "cpu", dtype=torch.bfloat16).transformers["transformer"]
    full, smoothed = case.full, case.smoothed()
    for name, parameter in smoothed.named_parameters():
        assert parameter.dtype == full.get_parameter(name.replace(".linear.", ".")).dtype
    assert 25 < snr_db(velocity(full), velocity(smoothed)) < 60  # what bfloat16 costs, not what an error would
    simulated = case.simulated(full)
    assert 10 < snr_db(velocity(full), velocity(simulated)) < 40


@pytest.mark.parametrize("variant", MODELS)
def test_every_block_linear_is_simulated_with_its_own_tensors(
    opened: Callable[[Variant], Opened], variant: Variant
) -> None:
    case = opened(variant)
    simulated = case.simulated(case.full)
    topology = case.weights.topology
    replaced = {name for name, module in simulated.named_modules() if isinstance(module, FakeQuantLinear)}
    assert replaced == {linear.name for linear in topology.linears}
    for name in replaced:
        module = simulated.get_submodule(name)
        assert isinstance(module, FakeQuantLinear)
        codes, scale = case.qparams.linear("transformer", name)
        assert torch.equal(module.codes, codes)
        assert torch.equal(module.scale, scale)
        assert torch.equal(module.bias, case.weights.plain([f"{name}.bias"])[f"{name}.bias"].float())
        gain = topology.gain_of(name)
        if gain is None:
            assert module.gain is None
        else:
            assert module.gain is not None
            assert torch.equal(module.gain, case.weights.gain(gain))
    for name, parameter in simulated.named_parameters():
        assert torch.equal(parameter, case.weights.plain([name])[name].float())


@pytest.mark.parametrize("variant", MODELS)
def test_fake_quant_is_the_smoothed_model_with_rounded_weights_and_inputs(
    opened: Callable[[Variant], Opened], variant: Variant
) -> None:
    """Against plain linears with dequantized weights whose inputs are rounded by a hook, in fp64."""
    case = opened(variant)
    reference = case.smoothed()
    for linear in case.weights.topology.linears:
        module = reference.get_submodule(linear.name)
        plain = module.linear if isinstance(module, GainLinear) else module
        assert isinstance(plain, nn.Linear)
        codes, scale = case.qparams.linear("transformer", linear.name)
        plain.weight.data = codes.float() * scale
        plain.register_forward_pre_hook(_round_input)
    full, simulated = velocity(case.full), velocity(case.simulated(case.full))
    noise = snr_db(full, simulated)
    assert noise < 40
    assert snr_db(velocity(reference), simulated) > noise + 20  # what is left: codes on the edge of rounding


def _round_input(module: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
    x = inputs[0].double()
    scale = x.abs().amax(-1, keepdim=True) / 127
    return ((x / scale).round() * scale).float()


def test_it_does_not_matter_whether_the_model_was_smoothed_before(opened: Callable[[Variant], Opened]) -> None:
    case = opened("i2v")
    from_full, from_smoothed = case.simulated(case.full), case.simulated(case.smoothed())
    assert from_full.state_dict().keys() == from_smoothed.state_dict().keys()
    for name, tensor in from_full.state_dict().items():
        assert torch.equal(tensor, from_smoothed.state_dict()[name])


def test_corrected_biases_are_used(
    opened: Callable[[Variant], Opened], artifacts: Artifacts, write_qparams: Callable[..., Path], tmp_path: Path
) -> None:
    case = opened("t2v")
    before = case.simulated(case.full)
    case.qparams = open_qparams(write_qparams(artifacts("t2v")[0], tmp_path / "corrected", bias_shift=0.25))
    after = case.simulated(case.full)
    for linear in case.weights.topology.linears:
        shifted = before.get_submodule(linear.name).bias + 0.25
        assert torch.equal(after.get_submodule(linear.name).bias, shifted)
    assert not torch.equal(velocity(before), velocity(after))


@pytest.mark.parametrize("smoothed_before", [False, True])
def test_with_every_linear_ignored_the_function_is_that_of_the_model(
    opened: Callable[[Variant], Opened], smoothed_before: bool
) -> None:
    case = opened("i2v")
    linears = tuple(linear.name for linear in case.weights.topology.linears)
    simulated = case.simulated(case.smoothed() if smoothed_before else case.full, linears)
    assert snr_db(velocity(case.full), velocity(simulated)) > 100


@pytest.mark.parametrize("smoothed_before", [False, True])
@pytest.mark.parametrize("place", ["attn1.to_q", "attn1.to_out.0", "ffn.net.0.proj", "ffn.net.2"])
def test_an_ignored_linear_is_that_of_the_smoothed_model(
    opened: Callable[[Variant], Opened], place: str, smoothed_before: bool
) -> None:
    case = opened("i2v")
    ignored = f"blocks.1.{place}"
    smoothed = case.smoothed()
    simulated = case.simulated(smoothed if smoothed_before else case.full, (ignored,))
    ours, expected = (it.get_submodule(ignored) for it in (simulated, smoothed))
    assert type(ours) is type(expected)
    assert ours.state_dict().keys() == expected.state_dict().keys()
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, expected.state_dict()[name])
    replaced = {name for name, module in simulated.named_modules() if isinstance(module, FakeQuantLinear)}
    assert replaced == {linear.name for linear in case.weights.topology.linears} - {ignored}
