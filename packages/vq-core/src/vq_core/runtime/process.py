"""This process among those that torchrun started for one command; free of heavy imports."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from vq_core.errors import VqError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Process:
    """One process of a command, which is alone unless torchrun says otherwise.

    Attributes:
        rank: its number among all.
        world_size: how many there are.
        local_rank: its number among those of this machine, which is that of its GPU.
        local_world_size: how many there are on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_alone(self) -> bool:
        """Is there no other?"""
        return self.world_size == 1

    @property
    def is_first(self) -> bool:
        """Is it the one that completes what all have made, and reports it?"""
        return self.rank == 0

    def host_share(self, nbytes: int) -> int:
        """What it may take of `nbytes` of this machine's memory: as much as each of the others on it."""
        return nbytes // self.local_world_size


ALONE = Process()


def this_process(environment: Mapping[str, str] = os.environ) -> Process:
    """This process as torchrun's variables in `environment` describe it.

    Raises:
        VqError: a variable of torchrun is missing.
    """
    if environment.get("WORLD_SIZE", "1") == "1":
        return ALONE
    for name in VARIABLES:
        if name not in environment:
            raise VqError(f"WORLD_SIZE is set and {name} is not: start the command with torchrun, or unset WORLD_SIZE.")
    return Process(*(int(environment[name]) for name in VARIABLES))
