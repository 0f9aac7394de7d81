"""Two shards at a time, so that one is read or written while the other is computed."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 2
"""Each holds one shard, so this is also how many blocks are in memory."""


def overlap(work: Callable[[T], R], items: Iterable[T], done: Callable[[R], object]) -> None:
    """Call `work` with every item in the next free thread, and `done` with each result, in order.

    `done` runs in this thread, which is otherwise idle: it is the place to wait for the disk. Torch releases the
    interpreter while it computes, as do reading, hashing and writing. Its own threads are divided among the workers,
    because more threads than cores wait for each other.

    Raises:
        Exception: that of `done`, or that of `work` for the first item that failed. Items that are not begun by then
            are left out, and none is being worked on when this returns.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, threads // WORKERS))  # new threads start with it
    executor = ThreadPoolExecutor(WORKERS)
    try:
        for result in executor.map(work, items):
            done(result)
    finally:
        executor.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)
