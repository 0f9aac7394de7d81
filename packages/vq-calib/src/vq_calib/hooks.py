"""Hooks that lead the inputs of a transformer's groups to an accumulator, by noise level and guidance branch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vq_calib.accumulator import Accumulator
from vq_calib.reduction import Reduce
from vq_core.artifacts.stats import BUCKETS
from vq_core.errors import VqError
from vq_core.topology import Group

TRAIN_TIMESTEPS = 1000  # the transformer is conditioned on the timestep 1000 · sigma

Flush = Callable[[int, dict[str, Tensor]], None]
"""Receives a bucket's index and what `Accumulator.take` returned for it."""


def bucket_of(sigma: float) -> int:
    """Bucket of a noise level in 0 … 1; bucket b holds b/8 ≤ sigma < (b + 1)/8, and the last one sigma = 1 too."""
    return min(int(sigma * BUCKETS), BUCKETS - 1)


class Observer:
    """Watches one transformer, which errors call `name`, through hooks.

    A pipeline calls a transformer for the conditional branch and then, under guidance, for the unconditional one, at
    every timestep: so the branch is the parity of the call. (Diffusers names the branch in `cache_context`, but hands
    the name only to its own caching hooks, and in another form in every release.)

    Only one bucket is on the device at a time: the sampler lowers sigma, so `flush` gets each bucket about once a
    video.
    """

    def __init__(self, name: str, groups: Sequence[Group], *, guided: bool, reduce: Reduce, flush: Flush) -> None:
        self.calls = 0
        self._name = name
        self._groups = groups
        self._branches = 2 if guided else 1
        self._accumulator = Accumulator(groups, reduce)
        self._flush = flush
        self._timestep = torch.nan
        self._bucket: int | None = None
        self._branch = 0

    @contextmanager
    def attached(self, transformer: nn.Module) -> Iterator[None]:
        """Watch `transformer` within the block. The last bucket is handed over by `flush`."""
        with ExitStack() as hooks:
            hooks.enter_context(transformer.register_forward_pre_hook(self._begin_call, with_kwargs=True))
            for group in self._groups:
                # All linears of a group read one tensor, so the first of them shows it.
                linear = transformer.get_submodule(group.reads[0])
                hooks.enter_context(linear.register_forward_pre_hook(self._reader(group.name)))
            yield

    def check_finite(self) -> None:
        """Refuse NaN and Inf; to be called after every step, because in the next one every input has them.

        Raises:
            VqError: a group has read NaN or Inf.
        """
        if group := self._accumulator.non_finite():
            sigma = self._timestep / TRAIN_TIMESTEPS
            raise VqError(
                f"The input of {group} in {self._name} holds NaN or Inf at sigma {sigma:.3f} (bucket {self._bucket}): "
                "look for such values in the weights before it."
            )

    def flush(self) -> None:
        """Hand over what the current bucket has gathered."""
        if self._bucket is not None:
            self._flush(self._bucket, self._accumulator.take())
            self._bucket = None

    def _begin_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        # TI2V-5B has a timestep per token, 0 for those of the given image: the largest is the sampler's.
        timestep = float(kwargs["timestep"].max())
        self._branch = self.calls % self._branches
        if self._branch and timestep != self._timestep:
            raise RuntimeError(f"the unconditional call came at timestep {timestep}, the other at {self._timestep}")
        self.calls += 1
        self._timestep = timestep
        bucket = bucket_of(timestep / TRAIN_TIMESTEPS)
        if bucket != self._bucket:
            self.flush()
            self._bucket = bucket

    def _reader(self, group: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def read(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            self._accumulator.add(group, self._branch, args[0])

        return read
