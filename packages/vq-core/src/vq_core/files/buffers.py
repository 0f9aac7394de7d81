"""Memory that tensors are read or written into, reused once nothing refers to them.

The system clears every page that it hands out, and for large tensors that takes several times as long as reading them
from its cache does.
"""

import threading
import weakref

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KEPT = 2
"""How many buffers that are not in use are kept unless more are asked for."""
SMALLEST = 1 << 20
"""Bytes from which on a buffer is worth keeping; smaller ones the C library keeps itself."""


class Buffers:
    """Buffers for one use, by any number of threads."""

    def __init__(self, kept: int = KEPT) -> None:
        """Of the buffers that are not in use, `kept` are kept: the largest ones."""
        self._kept = kept
        self._free: list[NDArray[np.uint8]] = []
        self._lock = threading.Lock()

    def take(self, size: int) -> Tensor:
        """A buffer of `size` bytes, uint8 `[size]`, with any content; it is free again when no tensor shares it."""
        if size < SMALLEST:
            return torch.empty(size, dtype=torch.uint8)
        with self._lock:
            fitting = [index for index, memory in enumerate(self._free) if memory.size >= size]
            memory = self._free.pop(fitting[0]) if fitting else np.empty(size, dtype=np.uint8)
        lent = memory[:size]
        # The tensor keeps this view alive, and every tensor made from it the tensor's storage.
        weakref.finalize(lent, self._give_back, memory).atexit = False
        return torch.from_numpy(lent)

    def _give_back(self, memory: NDArray[np.uint8]) -> None:
        with self._lock:
            kept = sorted([*self._free, memory], key=lambda free: free.size)
            self._free = kept[-self._kept :]  # by size, so that the smallest that fits is found first
