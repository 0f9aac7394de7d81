"""Our own 8-bit attention: logits from INT8 codes of q and k, softmax weights times v in FP8."""

from importlib.util import find_spec

import torch
from torch import Tensor

from vq_infer.eight_bit import reference

NAME = "8-bit attention (INT8 q·k, FP8 weights·v)"
ERROR = 0.04
CAPABILITY = (9, 0)
GLUON = "triton.experimental.gluon.nvidia.hopper"


def unavailable(device: torch.device) -> str | None:
    """See `AttentionModule.unavailable`; on the CPU it runs in plain torch, for comparison and not for speed."""
    if device.type == "cpu":
        return None
    if device.type != "cuda" or torch.cuda.get_device_capability(device) != CAPABILITY:
        return "8-bit attention needs a Hopper GPU (H100, H200), or the CPU, where it is slow"
    if not _has_gluon():
        return "8-bit attention needs Triton 3.6 or newer"
    return None


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """See `Attention.attend`.

    Raises:
        VqError: heads have more than 128 channels.
    """
    return _attend(q, k, v)


# A single operation for torch.compile, which cannot trace kernels written in Gluon.
@torch.library.custom_op("vq_infer::attend_in_8_bits", mutates_args=())
def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    if q.device.type == "cpu":
        return reference.attend(q, k, v)
    from vq_infer.eight_bit import hopper
    from vq_infer.eight_bit.quantize import quantize

    return hopper.weigh(quantize(q, k, v), k.shape[1], q)


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return q.new_empty(q.shape)


def _has_gluon() -> bool:
    try:
        return find_spec(GLUON) is not None
    except ModuleNotFoundError:
        return False
