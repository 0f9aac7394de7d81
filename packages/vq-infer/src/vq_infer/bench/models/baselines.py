"""Diffusers' own transformer with random weights, for the contenders that are not ours."""

from typing import Any, cast

import torch
from torch import nn

from vq_core.families import wan
from vq_core.runtime.device import runtime_dtype
from vq_infer.bench.models.random_weights import random_tensor
from vq_infer.bench.models.workload import Workload

CUDNN = "_native_cudnn"


def diffusers_model(workload: Workload, device: torch.device, attention: str | None = None) -> nn.Module:
    """The transformer as from `from_pretrained`, made on the device; `attention` is a backend of diffusers."""
    import diffusers
    from accelerate import init_empty_weights

    topology = wan.topology(workload.config)
    model_class = getattr(diffusers, str(workload.config["_class_name"]))
    with init_empty_weights():
        model = model_class.from_config(dict(workload.config))
    kept = frozenset(model_class._keep_in_fp32_modules)
    for names in topology.shards().values():
        tensors = {
            name: random_tensor(name, topology.tensors[name], str(device)).to(
                torch.float32 if kept.intersection(name.split(".")) else runtime_dtype(device)
            )
            for name in names
        }
        model.load_state_dict(tensors, strict=False, assign=True)
    if attention is not None:
        from diffusers.models.attention_dispatch import attention_backend

        with attention_backend(attention):  # restores the backend of the whole process, which diffusers sets too
            model.set_attention_backend(attention)
    return cast(nn.Module, model.to(device).requires_grad_(False).eval())


def compiled(model: nn.Module) -> nn.Module:
    """`model` with its blocks compiled once for all, as diffusers recommends."""
    cast(Any, model).compile_repeated_blocks(fullgraph=True)
    return model


def no_cuda(device: torch.device) -> str | None:
    """Why compiled models are not measured on `device`."""
    return None if device.type == "cuda" else "it is measured on CUDA only"


def without_torchao(device: torch.device, capability: tuple[int, int]) -> str | None:
    """Why torchao's quantization, which needs a GPU of at least `capability`, cannot run on `device`."""
    from importlib.util import find_spec

    if reason := no_cuda(device):
        return reason
    if find_spec("torchao") is None:
        return "torchao is not installed"
    own = torch.cuda.get_device_capability(device)
    needed = ".".join(map(str, capability))
    return None if own >= capability else f"the GPU has compute capability {own[0]}.{own[1]} and {needed} is needed"


def quantize_with_torchao(model: nn.Module, config: object) -> nn.Module:
    """`model` with the linears of its blocks quantized according to `config`; other linears stay."""
    from torchao.quantization import quantize_

    quantize_(cast(Any, model).blocks, config)
    return model
