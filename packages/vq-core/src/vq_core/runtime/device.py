"""The device that a command computes on."""

import torch

from vq_core.errors import VqError


def resolve_device(device: str | None) -> str:
    """`device`, checked; without one, `cuda` where there is CUDA, else `cpu`.

    Raises:
        VqError: the device is not known, or not in this machine.
    """
    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        chosen = torch.device(device)
    except RuntimeError:
        chosen = torch.device("meta")
    if chosen.type not in ("cpu", "cuda"):
        raise VqError(f"`{device}` is not a device that is used here: choose cpu, cuda or cuda:N.")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise VqError(
            f"`{device}` is not in this machine ({torch.cuda.device_count()} CUDA devices): use --device cpu."
        )
    return device
