"""The device that a command computes on, and its dtype."""

import torch

from vq_core.errors import VqError
from vq_core.runtime.process import this_process


def resolve_device(device: str | None) -> str:
    """Check `device` and return it; a GPU with a known number becomes torch's current device.

    None means `cuda` if there is a GPU, else `cpu`. Under torchrun `cuda` is the process's own GPU. Triton starts
    kernels on the current device, and peaks of memory are read there.

    Raises:
        VqError: the device is unknown, not in this machine, or belongs to another process.
    """
    try:
        chosen = torch.device(device if device is not None else "cuda" if torch.cuda.is_available() else "cpu")
    except RuntimeError:
        chosen = torch.device("meta")
    if chosen.type not in ("cpu", "cuda"):
        raise VqError(f"`{device}` is not a supported device: choose cpu, cuda or cuda:N.")
    return str(chosen) if chosen.type == "cpu" else _resolve_gpu(str(chosen))


def runtime_dtype(device: torch.device | str) -> torch.dtype:
    """Dtype of activations and unquantized weights: bfloat16 on CUDA; fp32 on the CPU, where bfloat16 is slow."""
    return torch.bfloat16 if torch.device(device).type == "cuda" else torch.float32


def _resolve_gpu(asked: str) -> str:
    process, count = this_process(), torch.cuda.device_count()
    own = f"cuda:{process.local_rank}"
    chosen = own if asked == "cuda" and not process.is_alone else asked
    if process.local_world_size > 1 and chosen != own:
        raise VqError(
            f"`{asked}` is one device for all {process.local_world_size} processes of this machine: use --device cuda, "
            "which gives each process its own GPU."
        )
    if (torch.device(chosen).index or 0) >= count:
        if process.local_world_size > 1:
            raise VqError(
                f"Process {process.local_rank} of this machine has no GPU of its own (GPUs here: {count}): "
                "start one process per GPU."
            )
        raise VqError(f"`{asked}` is not in this machine, which has {count} CUDA devices: use --device cpu.")
    if chosen != "cuda":
        torch.cuda.set_device(chosen)
    return chosen
