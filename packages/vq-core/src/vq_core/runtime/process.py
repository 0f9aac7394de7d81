"""This process among those that torchrun started for one command. This module has no heavy imports."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from vq_core.errors import VqError

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Process:
    """One process of a command; it is alone unless torchrun started several.

    Attributes:
        rank: its number among all processes.
        world_size: number of processes.
        local_rank: its number among the processes of this machine, and that of its GPU.
        local_world_size: number of processes on this machine.
    """

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_alone(self) -> bool:
        """Whether it is the only one."""
        return self.world_size == 1

    @property
    def is_first(self) -> bool:
        """Whether it is the process that completes and reports what all processes made."""
        return self.rank == 0

    def host_share(self, nbytes: int) -> int:
        """Its share of `nbytes` of this machine's memory: all local processes get the same."""
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
