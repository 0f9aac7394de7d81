"""A diffusers transformer whose block linears run on the codes of a converted checkpoint."""

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn

from vq_core.errors import VqError
from vq_core.files.read_ahead import read_ahead
from vq_core.model.transformer_reader import CodesReader
from vq_core.numerics.grouped import pack
from vq_core.numerics.scheme import NumberFormat
from vq_core.runtime.device import runtime_dtype
from vq_core.runtime.progress import progress
from vq_core.topology import NON_BLOCK
from vq_infer.attention import AUTO, Attention
from vq_infer.attention_choice import select_attention
from vq_infer.fused.block import FusedBlock
from vq_infer.fused.ops import select_ops
from vq_infer.kernels import ProductKernel, checked_kernel, select_kernel
from vq_infer.kernels.quant_linear import QuantLinear

OnBlock = Callable[[str, nn.Module], None]
"""Called with the name of a shard and its block as soon as the block is complete on the device."""


def load_transformer(
    component: CodesReader,
    device: torch.device,
    label: str,
    attention: Attention,
    *,
    on_block: OnBlock | None = None,
) -> nn.Module:
    """Diffusers' transformer of the checkpoint's class in eval mode on `device`, its quantized linears `QuantLinear`s.

    It is made without memory and filled shard by shard, straight onto the device, while the digest of the next shard is
    checked. Tensors that are not quantized are bfloat16 on CUDA and fp32 on the CPU, or fp32 where diffusers keeps
    them so. `label` names the transformer in the progress bar. `attention` computes self-attention; cross-attention is
    always in full precision. A block that `on_block` moves to the host is never on the device beside the rest.

    Raises:
        VqError: the device cannot run a linear's scheme, or the checkpoint is damaged.
    """
    import diffusers
    from accelerate import init_empty_weights

    transformer_class = getattr(diffusers, str(component.config["_class_name"]))
    formats = {component.scheme_of(linear.name).weight for linear in component.topology.linears}
    kernels = {fmt: checked_kernel(kernel_for(device, fmt), device) for fmt in formats}
    _require_sizes(component, kernels)
    # `init_empty_weights` makes real buffers: those of the rotary embedding are computed, not stored.
    with init_empty_weights():
        model = cast(nn.Module, transformer_class.from_config(component.config))
    dtype, cross_attention = runtime_dtype(device), select_attention(AUTO, device)
    kept = frozenset(transformer_class._keep_in_fp32_modules)
    shards, plain_shards = component.topology.shards(), component.topology.plain_shards()
    with progress(f"loading {label}", len(shards), "shard") as advance:
        for shard in read_ahead(shards, component.verify):
            plain = {
                # Copied, because where a tensor lies in its file decides in which order the CPU sums its products.
                name: tensor.to(torch.float32 if kept.intersection(name.split(".")) else dtype, copy=True)
                for name, tensor in component.plain(plain_shards[shard], str(device)).items()
            }
            _place_linears(model, component, kernels, device, plain, shards[shard])
            model.load_state_dict(plain, strict=False, assign=True)
            if shard != NON_BLOCK:
                block = _fused(model, shard, device, attention, cross_attention)
                if on_block is not None:
                    on_block(shard, block)
            advance()
    return model.to(device).requires_grad_(False).eval()


def _fused(
    model: nn.Module, shard: str, device: torch.device, attention: Attention, cross_attention: Attention
) -> nn.Module:
    """The block that `shard` fills, replaced by a `FusedBlock`; VACE's own blocks, which differ, stay as they are."""
    from diffusers.models.transformers.transformer_wan import WanTransformerBlock

    stack, _, number = shard.rpartition("_")
    name = f"{stack}s.{number}"
    block = model.get_submodule(name)
    if stack != "block" or not isinstance(block, WanTransformerBlock) or not isinstance(block.norm2, nn.LayerNorm):
        return block
    fused = FusedBlock(block.to(device), select_ops(device), attention, cross_attention)
    model.set_submodule(name, fused)
    return fused


def kernel_for(device: torch.device, fmt: NumberFormat) -> ProductKernel:
    """The kernel that multiplies codes in `fmt` on `device`.

    Raises:
        VqError: the device cannot.
    """
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else None
    return select_kernel(device.type, capability, fmt)


def kernel_names(model: nn.Module) -> tuple[str, ...]:
    """Names of what runs in `model`: the products of its linears, the operations between them, and self-attention."""
    names = {module.kernel.NAME for module in model.modules() if isinstance(module, QuantLinear)}
    for module in model.modules():
        if isinstance(module, FusedBlock):
            names |= {module.ops.NAME, module.attention.NAME}
    return tuple(sorted(names))


def _place_linears(
    model: nn.Module,
    component: CodesReader,
    kernels: Mapping[NumberFormat, ProductKernel],
    device: torch.device,
    plain: dict[str, Tensor],
    shard: tuple[str, ...],
) -> None:
    """Replace every quantized linear of `shard` by a `QuantLinear`, whose bias is taken out of `plain`."""
    stems = {name.removesuffix(".weight") for name in shard}
    for linear in (linear.name for linear in component.topology.linears if linear.name in stems):
        gain_name = component.topology.gain_of(linear)
        gain = None if gain_name is None else component.gain(gain_name, str(device))
        mean = component.input_mean(linear, str(device))
        bias = plain.pop(f"{linear}.bias", None)
        weight = component.linear(linear, str(device))
        stored = weight if weight.groups is None else pack(weight)
        model.set_submodule(linear, QuantLinear(stored, bias, gain, kernels[stored.format], mean))


def _require_sizes(component: CodesReader, kernels: Mapping[NumberFormat, ProductKernel]) -> None:
    for linear in component.topology.linears:
        kernel = kernels[component.scheme_of(linear.name).weight]
        if linear.in_features % kernel.MULTIPLE or linear.out_features % kernel.MULTIPLE:
            raise VqError(
                f"`{linear.name}` is {linear.out_features}x{linear.in_features} and {kernel.NAME} "
                f"needs multiples of {kernel.MULTIPLE}: use --device cpu."
            )
