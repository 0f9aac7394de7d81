"""Lets ComfyUI load the native checkpoints of vq: linears with INT8 products whose input is multiplied by a gain.

Such a linear says that it is of the format `vq_int8_gain`, or with weights of 4 or 6 bits `vq_w4a8_gain`, which ComfyUI
refuses by itself. For ComfyUI it is `int8_tensorwise` or `asym_w4a8_int8` with a `pre_quant_scale`, by which its
linears multiply their input wherever they have one.
"""

import json
from collections.abc import Callable
from typing import Any

import comfy.ops
import torch

KNOWN_FORMATS = {"vq_int8_gain": "int8_tensorwise", "vq_w4a8_gain": "asym_w4a8_int8"}
GAIN = "pre_quant_scale"

NODE_CLASS_MAPPINGS: dict[str, Any] = {}
"""ComfyUI looks for it; there is nothing to put into a workflow."""


def with_gains(load: Callable[..., None]) -> Callable[..., None]:
    """ComfyUI's `_load_quantized_module`, which fills one linear, for linears that have a gain too."""

    def load_with_gain(
        module: Any, super_load: Any, state_dict: dict[str, Any], prefix: str, *others: Any, **named: Any
    ):
        mark, gain = f"{prefix}comfy_quant", None
        if mark in state_dict:
            layer = json.loads(state_dict[mark].numpy().tobytes())
            if layer.get("format") in KNOWN_FORMATS:
                gain = state_dict.pop(f"{prefix}{GAIN}", None)
                if gain is None:
                    raise ValueError(f"{prefix}{GAIN} is missing: the checkpoint is not whole, so export it again.")
                known = json.dumps({**layer, "format": KNOWN_FORMATS[layer["format"]]}).encode()
                state_dict[mark] = torch.tensor(list(known), dtype=torch.uint8)
        load(module, super_load, state_dict, prefix, *others, **named)
        if gain is not None:
            gain = gain.to(module.factory_kwargs["device"])
            module.register_parameter(GAIN, torch.nn.Parameter(gain, requires_grad=False))

    return load_with_gain


comfy.ops._load_quantized_module = with_gains(comfy.ops._load_quantized_module)
