"""Several processes of one command, as torchrun starts them: which one this is, and waiting for the others."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed

from vq_core.errors import Unfinished

TIME_TO_JOIN = timedelta(minutes=10)
TIME_TO_FINISH = timedelta(days=30)  # a rank with longer videos may take hours more than the others


@dataclass(frozen=True)
class Rank:
    """This process among `of` that run together; `local` counts those on this machine."""

    number: int
    of: int
    local: int

    def device(self, asked: str | None) -> str | None:
        """The device that was `asked` for; where nothing was, this process' own GPU, if there is CUDA."""
        return f"cuda:{self.local}" if asked is None and torch.cuda.is_available() else asked


def rank_of(environment: Mapping[str, str] = os.environ) -> Rank | None:
    """The rank that torchrun gave this process; None where it runs alone."""
    world = int(environment.get("WORLD_SIZE", "1"))
    if world == 1:
        return None
    return Rank(int(environment["RANK"]), world, int(environment["LOCAL_RANK"]))


@contextmanager
def joined() -> Iterator[None]:
    """Together with the other ranks within the block."""
    distributed.init_process_group("gloo", timeout=TIME_TO_JOIN)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Return when every rank has come here.

    Raises:
        Unfinished: one has ended before.
    """
    try:
        distributed.monitored_barrier(timeout=TIME_TO_FINISH)
    except RuntimeError as error:
        raise Unfinished(
            f"Another process ended before its part was done ({str(error).splitlines()[0]}): "
            "mend what it reports and run the same command again with --resume."
        ) from None
