"""How much memory is free now."""

import psutil
import torch


def free_bytes(device: torch.device) -> int:
    """What this process can still take on `device`: for CUDA also what torch has kept and does not use."""
    if device.type != "cuda":
        return host_free_bytes()
    free, _ = torch.cuda.mem_get_info(device)
    return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))


def host_free_bytes() -> int:
    """Host memory that can be taken without swapping."""
    return int(psutil.virtual_memory().available)
