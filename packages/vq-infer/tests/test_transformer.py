"""The loaded transformer against diffusers' own with every block linear replaced by the reference function."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vq_core.artifacts.checkpoint import CheckpointComponent, open_checkpoint
from vq_core.errors import VqError
from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import Quantized
from vq_core.scheme import QuantScheme, scheme_named
from vq_infer.attention import load_attention
from vq_infer.kernels import cpu
from vq_infer.quant_linear import QuantLinear
from vq_infer.transformer import kernel_names, load_transformer

CPU = torch.device("cpu")
VARIANTS = ("t2v", "i2v", "i2v-2.2", "ti2v-5b")
SCHEMES = ("int8", "fp8")

TinyModel = Callable[[str], Path]
Convert = Callable[..., Path]


def diffusers_transformer(model: Path) -> nn.Module:
    from diffusers import WanTransformer3DModel

    transformer: nn.Module = WanTransformer3DModel.from_pretrained(model / "transformer", torch_dtype=torch.float32)
    return transformer.eval()


class ReferenceLinear(nn.Module):
    """The function, straight from the checkpoint's tensors."""

    def __init__(self, component: CheckpointComponent, name: str, scheme: QuantScheme) -> None:
        super().__init__()
        gain = component.topology.gain_of(name)
        self.weight = component.linear(name)
        self.bias = component.plain()[f"{name}.bias"]
        self.gain = component.gain(gain) if gain else None
        self.scheme = scheme

    def forward(self, x: Tensor) -> Tensor:
        return w8a8_linear(x, self.weight, self.bias, self.scheme.activation, self.gain)


def reference_transformer(model: Path, component: CheckpointComponent, scheme: QuantScheme) -> nn.Module:
    transformer = diffusers_transformer(model)
    plain = {name: tensor.float() for name, tensor in component.plain().items()}
    transformer.load_state_dict(plain, strict=False)
    for linear in component.topology.linears:
        transformer.set_submodule(linear.name, ReferenceLinear(component, linear.name, scheme))
    return transformer


def run(transformer: nn.Module, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Tensor:
    """One forward with CFG's batch of two, text padded to 512 tokens, and image tokens where the model takes them."""
    config = transformer.config
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    inputs = {
        "hidden_states": random(2, config.in_channels, 2, 8, 8),
        "timestep": torch.tensor([700, 700], device=device),
        "encoder_hidden_states": random(2, 512, config.text_dim),
        "encoder_hidden_states_image": random(2, 5, config.image_dim) if config.image_dim else None,
    }
    with torch.no_grad():
        output: Tensor = transformer(**inputs, return_dict=False)[0]
    return output.float().cpu()


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("scheme_name", SCHEMES)
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("smooth", [False, True])
def test_computes_the_reference(
    tiny_model: TinyModel, convert: Convert, variant: str, scheme_name: str, smooth: bool
) -> None:
    checkpoint = open_checkpoint(convert(tiny_model(variant), scheme_name, smooth=smooth))
    component = checkpoint.components["transformer"]
    engine = load_transformer(component, checkpoint.scheme, CPU, "transformer", load_attention("sdpa"))
    reference = reference_transformer(tiny_model(variant), component, checkpoint.scheme)
    calls: dict[str, tuple[Tensor, Tensor]] = {}
    for linear in component.topology.linears:
        reference.get_submodule(linear.name).register_forward_hook(
            lambda module, inputs, output, name=linear.name: calls.update({name: (inputs[0], output)})
        )
    expected = run(reference)
    for name, (x, y) in calls.items():
        assert relative(engine.get_submodule(name)(x), y) < 1e-5
    assert len(calls) == len(component.topology.linears)
    # Sums in another order flip a code now and then, and an FP8 code is 6 % of its value.
    assert relative(run(engine), expected) < (5e-3 if scheme_name == "int8" else 0.03)


def test_second_expert_is_another(tiny_model: TinyModel, convert: Convert) -> None:
    checkpoint = open_checkpoint(convert(tiny_model("i2v-2.2")))
    first, second = (
        load_transformer(component, checkpoint.scheme, CPU, name, load_attention("sdpa"))
        for name, component in checkpoint.components.items()
    )
    assert relative(run(first), run(second)) > 0.1


def test_gains_undo_the_smoothing(tiny_model: TinyModel, convert: Convert) -> None:
    model, scheme = tiny_model("i2v"), scheme_named("int8")
    full = run(diffusers_transformer(model))
    plain = open_checkpoint(convert(model, name="plain")).components["transformer"]
    smooth = open_checkpoint(convert(model, name="smooth", smooth=True)).components["transformer"]
    engine = load_transformer(smooth, scheme, CPU, "transformer", load_attention("sdpa"))
    error = relative(run(engine), full)
    plain_error = relative(run(load_transformer(plain, scheme, CPU, "transformer", load_attention("sdpa"))), full)
    for module in engine.modules():
        if isinstance(module, QuantLinear):
            module.gain = None
    forgotten = relative(run(engine), full)
    assert max(error, plain_error) < 0.1
    assert forgotten > 3 * error


def test_is_a_diffusers_model_ready_to_run(tiny_model: TinyModel, convert: Convert) -> None:
    from diffusers import WanTransformer3DModel

    checkpoint = open_checkpoint(convert(tiny_model("i2v")))
    engine = load_transformer(
        checkpoint.components["transformer"], checkpoint.scheme, CPU, "transformer", load_attention("sdpa")
    )
    assert isinstance(engine, WanTransformer3DModel)
    assert not engine.training
    assert (engine.dtype, engine.device) == (torch.float32, CPU)
    assert not any(parameter.requires_grad or parameter.is_meta for parameter in engine.parameters())
    assert not any(buffer.is_meta for buffer in engine.buffers())
    with engine.cache_context("cond"):
        run(engine)
    own = diffusers_transformer(tiny_model("i2v"))
    assert torch.equal(engine.rope.freqs_cos, own.rope.freqs_cos)
    assert torch.equal(engine.rope.freqs_sin, own.rope.freqs_sin)


def test_every_block_linear_runs_on_codes(tiny_model: TinyModel, convert: Convert) -> None:
    checkpoint = open_checkpoint(convert(tiny_model("i2v")))
    component = checkpoint.components["transformer"]
    engine = load_transformer(component, checkpoint.scheme, CPU, "transformer", load_attention("sdpa"))
    quantized = [name for name, module in engine.named_modules() if isinstance(module, QuantLinear)]
    assert sorted(quantized) == sorted(linear.name for linear in component.topology.linears)
    assert not [name for name, module in engine.blocks.named_modules() if isinstance(module, nn.Linear)]
    assert kernel_names(engine) == (cpu.NAME,)


def test_sizes_that_a_kernel_cannot_take(
    tiny_model: TinyModel, convert: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu, "MULTIPLE", 128)
    checkpoint = open_checkpoint(convert(tiny_model("t2v")))
    with pytest.raises(VqError, match=r"`blocks\.0\.attn1\.to_q` is 64x64 .* needs multiples of 128"):
        load_transformer(
            checkpoint.components["transformer"], checkpoint.scheme, CPU, "transformer", load_attention("sdpa")
        )


def test_truncated_shard(tiny_model: TinyModel, convert: Convert) -> None:
    folder = convert(tiny_model("t2v"))
    shard = folder / "block_1.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1  # the size still fits: only the digest tells
    shard.write_bytes(content)
    checkpoint = open_checkpoint(folder)
    with pytest.raises(VqError, match=r"block_1\.safetensors is not the file that was written"):
        load_transformer(
            checkpoint.components["transformer"], checkpoint.scheme, CPU, "transformer", load_attention("sdpa")
        )


@pytest.mark.gpu
@pytest.mark.parametrize("scheme_name", SCHEMES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_on_cuda(tiny_model: TinyModel, convert: Convert, variant: str, scheme_name: str) -> None:
    from diffusers import WanTransformer3DModel

    checkpoint = open_checkpoint(convert(tiny_model(variant), scheme_name, smooth=True))
    component = checkpoint.components["transformer"]
    engine = load_transformer(component, checkpoint.scheme, torch.device("cuda"), "transformer", load_attention("sdpa"))
    own = WanTransformer3DModel.from_pretrained(tiny_model(variant) / "transformer", torch_dtype=torch.bfloat16)
    expected = {name: parameter.dtype for name, parameter in own.named_parameters()}
    assert all(parameter.dtype == expected[name] for name, parameter in engine.named_parameters())
    assert engine.dtype == torch.bfloat16
    errors: dict[str, float] = {}

    def compare(name: str, module: QuantLinear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        weight = Quantized(module.codes, module.scale)
        expected = w8a8_linear(inputs[0], weight, module.bias, module.activation, module.gain)
        errors[name] = relative(output.float(), expected)

    for linear in component.topology.linears:
        engine.get_submodule(linear.name).register_forward_hook(partial(compare, linear.name))
    on_cuda = run(engine, "cuda", torch.bfloat16)
    assert len(errors) == len(component.topology.linears)
    assert max(errors.values()) < 3e-3
    on_cpu = run(load_transformer(component, checkpoint.scheme, CPU, "transformer", load_attention("sdpa")))
    # Between the linears one run is in bfloat16 and the other in fp32.
    assert relative(on_cuda, on_cpu) < 0.1
