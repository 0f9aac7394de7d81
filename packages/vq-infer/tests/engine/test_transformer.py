"""The loaded transformer against diffusers' own with every block linear replaced by the reference function."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vq_core.artifacts.checkpoint import ConvertedCheckpoint, ConvertedTransformer, open_checkpoint
from vq_core.errors import VqError
from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import Quantized
from vq_core.numerics.scheme import QuantScheme
from vq_infer.attention import sdpa
from vq_infer.engine.transformer import kernel_names, load_transformer
from vq_infer.fused.block import FusedBlock
from vq_infer.fused.ops import TORCH_OPS
from vq_infer.kernels import cpu
from vq_infer.kernels.quant_linear import QuantLinear

CPU = torch.device("cpu")
VARIANTS = ("t2v", "i2v", "i2v-2.2", "ti2v-5b")
SCHEMES = ("int8", "fp8")

TinyModel = Callable[[str], Path]
Opened = Callable[..., ConvertedCheckpoint]


def loaded(checkpoint: ConvertedCheckpoint, name: str = "transformer", device: torch.device = CPU) -> nn.Module:
    return load_transformer(checkpoint.components[name], device, name, sdpa)


def diffusers_transformer(model: Path) -> nn.Module:
    from diffusers import WanTransformer3DModel

    transformer: nn.Module = WanTransformer3DModel.from_pretrained(model / "transformer", torch_dtype=torch.float32)
    return transformer.eval()


class ReferenceLinear(nn.Module):
    """The function, straight from the checkpoint's tensors."""

    def __init__(self, component: ConvertedTransformer, name: str, scheme: QuantScheme) -> None:
        super().__init__()
        gain = component.topology.gain_of(name)
        self.weight = component.linear(name)
        self.bias = component.plain([f"{name}.bias"])[f"{name}.bias"]
        self.gain = component.gain(gain) if gain else None
        self.scheme = scheme

    def forward(self, x: Tensor) -> Tensor:
        return w8a8_linear(x, self.weight, self.bias, self.scheme.activation, self.gain)


def reference_transformer(model: Path, component: ConvertedTransformer, scheme: QuantScheme) -> nn.Module:
    transformer = diffusers_transformer(model)
    names = component.topology.tensors.keys() - component.topology.weights
    plain = {name: tensor.float() for name, tensor in component.plain(names).items()}
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
    tiny_model: TinyModel, opened: Opened, variant: str, scheme_name: str, smooth: bool
) -> None:
    checkpoint = opened(variant, scheme_name, smooth=smooth)
    engine = loaded(checkpoint)
    reference = reference_transformer(tiny_model(variant), checkpoint.components["transformer"], checkpoint.schemes[0])
    calls: dict[int, tuple[tuple[Tensor, ...], Tensor]] = {}
    for number, block in enumerate(reference.blocks):
        block.register_forward_hook(
            lambda module, inputs, output, number=number: calls.update({number: (inputs, output)})
        )
    expected = run(reference)
    assert len(calls) == len(reference.blocks)
    with torch.no_grad():
        for number, (inputs, output) in calls.items():
            assert relative(engine.blocks[number](*inputs), output) < (1e-3 if scheme_name == "int8" else 5e-3)
    # Sums in another order flip a code now and then, and an FP8 code is 6 % of its value.
    assert relative(run(engine), expected) < (5e-3 if scheme_name == "int8" else 0.03)


def test_second_expert_is_another(opened: Opened) -> None:
    first, second = (loaded(opened("i2v-2.2"), name) for name in ("transformer", "transformer_2"))
    assert relative(run(first), run(second)) > 0.1


def test_gains_undo_the_smoothing(tiny_model: TinyModel, opened: Opened) -> None:
    full = run(diffusers_transformer(tiny_model("i2v")))
    plain, engine = (loaded(opened("i2v", smooth=smooth)) for smooth in (False, True))
    error, plain_error = relative(run(engine), full), relative(run(plain), full)
    for module in engine.modules():
        if isinstance(module, QuantLinear):
            module.gain = None
    assert max(error, plain_error) < 0.1
    assert relative(run(engine), full) > 3 * error


def test_is_a_diffusers_model_ready_to_run(tiny_model: TinyModel, opened: Opened) -> None:
    from diffusers import WanTransformer3DModel

    engine: Any = loaded(opened("i2v"))
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


def test_every_block_linear_runs_on_codes(opened: Opened) -> None:
    linears = opened("i2v").components["transformer"].topology.linears
    engine: Any = loaded(opened("i2v"))
    codes = sum(module.codes.numel() for module in engine.modules() if isinstance(module, QuantLinear))
    assert codes == sum(linear.in_features * linear.out_features for linear in linears)
    assert not [name for name, module in engine.blocks.named_modules() if isinstance(module, nn.Linear)]
    assert kernel_names(engine) == tuple(sorted((cpu.NAME, TORCH_OPS.NAME, sdpa.NAME)))


def test_vaces_own_blocks_run_one_linear_after_the_other(opened: Opened) -> None:
    linears = opened("vace").components["transformer"].topology.linears
    engine: Any = loaded(opened("vace"))
    assert all(isinstance(block, FusedBlock) for block in engine.blocks)
    own = [name for name, module in engine.vace_blocks.named_modules() if isinstance(module, QuantLinear)]
    assert len(own) == sum(linear.name.startswith("vace_blocks.") for linear in linears)


def test_sizes_that_a_kernel_cannot_take(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu, "MULTIPLE", 128)
    with pytest.raises(VqError, match=r"`blocks\.0\.attn1\.to_q` is 64x64 .* needs multiples of 128"):
        loaded(opened("t2v"))


def test_damaged_shard(converted: Callable[..., Path], tmp_path: Path) -> None:
    folder = shutil.copytree(converted("t2v"), tmp_path / "damaged")
    shard = folder / "block_1.safetensors"
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1  # the size still fits: only the digest tells
    shard.write_bytes(content)
    with pytest.raises(VqError, match=r"block_1\.safetensors is not the file that was written"):
        loaded(open_checkpoint(folder))


@pytest.mark.gpu
@pytest.mark.parametrize("scheme_name", SCHEMES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_on_cuda(tiny_model: TinyModel, opened: Opened, variant: str, scheme_name: str) -> None:
    from diffusers import WanTransformer3DModel

    checkpoint = opened(variant, scheme_name, smooth=True)
    engine: Any = loaded(checkpoint, device=torch.device("cuda"))
    own = WanTransformer3DModel.from_pretrained(tiny_model(variant) / "transformer", torch_dtype=torch.bfloat16)
    dtypes = {name: parameter.dtype for name, parameter in own.named_parameters()}
    # The norms of queries and keys are stacked, under names of their own.
    assert all(parameter.dtype == dtypes.get(name, torch.bfloat16) for name, parameter in engine.named_parameters())
    assert engine.dtype == torch.bfloat16
    products = {
        module: torch.randn(300, module.codes.shape[1])
        for module in engine.modules()
        if isinstance(module, QuantLinear)
    }
    for linear, x in products.items():
        x = x.to("cuda", torch.bfloat16)
        expected = w8a8_linear(x, Quantized(linear.codes, linear.scale), linear.bias, linear.activation, linear.gain)
        assert relative(linear(x).float(), expected) < 3e-3
    blocks: list[tuple[FusedBlock, tuple[Tensor, ...], Tensor]] = []
    for block in engine.blocks:
        block.register_forward_hook(lambda module, inputs, output: blocks.append((module, inputs, output)))
    on_cuda = run(engine, "cuda", torch.bfloat16)
    with torch.no_grad():
        for block, inputs, output in blocks[: len(engine.blocks)]:
            assert block.ops.NAME != TORCH_OPS.NAME
            block.ops = TORCH_OPS
            # What the block adds, whose codes flip where sums are taken in another order.
            assert relative(output - inputs[0], block(*inputs) - inputs[0]) < 0.03
    # Between the linears one run is in bfloat16 and the other in fp32.
    assert relative(on_cuda, run(loaded(checkpoint))) < 0.1
