"""How much memory this process can take now."""

import psutil
import torch

from vq_core.runtime.process import this_process


def free_bytes(device: torch.device) -> int:
    """Of `device`, which is no other process's: for CUDA also what torch has kept and does not use."""
    if device.type != "cuda":
        return host_free_bytes()
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def host_free_bytes() -> int:
    """Host memory that can be taken without swapping: its share of what torchrun's processes on this machine can."""
    return this_process().host_share(int(psutil.virtual_memory().available))
