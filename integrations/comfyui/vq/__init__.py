"""Lets ComfyUI load the native checkpoints of vq: linears with INT8 products whose input has a gain or a mean.

Such a linear says that it is of the format `vq_int8_gain` or `vq_int8_mean`, or with weights of 4 or 6 bits
`vq_w4a8_gain` or `vq_w4a8_mean`, which ComfyUI refuses by itself. For ComfyUI it is `int8_tensorwise` or
`asym_w4a8_int8`. By a `pre_quant_scale` its linears multiply their input wherever they have one; a `pre_quant_mean` is
subtracted here.
"""

import json
from collections.abc import Callable
from typing import Any

import comfy.ops
import torch

GAIN, MEAN = "pre_quant_scale", "pre_quant_mean"
FORMATS = {
    "vq_int8_gain": ("int8_tensorwise", GAIN),
    "vq_w4a8_gain": ("asym_w4a8_int8", GAIN),
    "vq_int8_mean": ("int8_tensorwise", MEAN),
    "vq_w4a8_mean": ("asym_w4a8_int8", MEAN),
}
"""What each is for ComfyUI, and the vector that comes with it."""

NODE_CLASS_MAPPINGS: dict[str, Any] = {}
"""ComfyUI looks for it; there is nothing to put into a workflow."""


def less_mean(module: Any, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    """What `module` reads instead of its `inputs`: the first of them less the mean."""
    x, *others = inputs
    return x - module.pre_quant_mean.to(x.device, x.dtype), *others


def with_vectors(load: Callable[..., None]) -> Callable[..., None]:
    """ComfyUI's `_load_quantized_module`, which fills one linear, for linears that have a gain or a mean too."""

    def load_with_vector(
        module: Any, super_load: Any, state_dict: dict[str, Any], prefix: str, *others: Any, **named: Any
    ):
        mark, name, vector = f"{prefix}comfy_quant", "", None
        if mark in state_dict:
            layer = json.loads(state_dict[mark].numpy().tobytes())
            if layer.get("format") in FORMATS:
                known_format, name = FORMATS[layer["format"]]
                vector = state_dict.pop(f"{prefix}{name}", None)
                if vector is None:
                    raise ValueError(f"{prefix}{name} is missing: the checkpoint is not whole, so export it again.")
                known = json.dumps({**layer, "format": known_format}).encode()
                state_dict[mark] = torch.tensor(list(known), dtype=torch.uint8)
        load(module, super_load, state_dict, prefix, *others, **named)
        if vector is not None:
            vector = vector.to(module.factory_kwargs["device"])
            module.register_parameter(name, torch.nn.Parameter(vector, requires_grad=False))
            if name == MEAN:
                module.register_forward_pre_hook(less_mean)

    return load_with_vector


def through_the_linear(fused: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """ComfyUI's `linear_input_act`, whose kernel would go past what a linear with a mean subtracts."""

    def linear_input_act(linear: Any, x: torch.Tensor, input_act: str) -> torch.Tensor:
        if not hasattr(linear, MEAN):
            return fused(linear, x, input_act)
        y: torch.Tensor = linear(comfy.ops.INPUT_ACT_EAGER[input_act](x))
        return y

    return linear_input_act


comfy.ops._load_quantized_module = with_vectors(comfy.ops._load_quantized_module)
if hasattr(comfy.ops, "linear_input_act"):  # ComfyUI 0.33 has it
    comfy.ops.linear_input_act = through_the_linear(comfy.ops.linear_input_act)
