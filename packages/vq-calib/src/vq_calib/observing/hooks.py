"""Hooks that pass the inputs of a transformer's groups to an accumulator, by noise level and guidance branch."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vq_calib.observing.accumulator import Accumulator
from vq_calib.observing.reduction import Reduction
from vq_calib.observing.reservoir import Reservoir
from vq_calib.planning.hashing import BREAK_TIES, token_hash
from vq_calib.planning.token_plan import Script, ScriptedCall, place_of
from vq_core.errors import VqError
from vq_core.sampling.schedule import TRAIN_TIMESTEPS
from vq_core.topology import Group

Flush = Callable[[int, dict[str, Tensor]], None]
"""Receives a bucket's index and what `Accumulator.take` and `Reservoir.take` returned for it."""


class Observer:
    """Watches one transformer through one prompt's `script` with hooks; errors call the transformer `name`.

    Only one bucket is on the device at a time. The sampler lowers sigma, so `flush` gets each bucket about once for
    each video.
    """

    def __init__(
        self, name: str, groups: Sequence[Group], script: Script, *, reduction: Reduction, flush: Flush
    ) -> None:
        self._name = name
        self._groups = groups
        self._script = script
        self._coming = iter(script.calls)
        self._call: ScriptedCall | None = None
        self._hashes = torch.empty(0, dtype=torch.int64)
        self._accumulator = Accumulator(groups, reduction)
        self._reservoir = Reservoir(groups, script)
        self._flush = flush

    @contextmanager
    def attached(self, transformer: nn.Module) -> Iterator[None]:
        """Watch `transformer` within the block. `finish` hands over the last bucket."""
        with ExitStack() as hooks:
            hooks.enter_context(transformer.register_forward_pre_hook(self._begin_call, with_kwargs=True))
            for group in self._groups:
                # All linears of a group read one tensor, so the first of them shows it.
                linear = transformer.get_submodule(group.reads[0])
                hooks.enter_context(linear.register_forward_pre_hook(self._reader(group)))
            yield

    def end_step(self) -> None:
        """Move sampled rows to the host and refuse NaN and Inf, which every input would hold in the next step.

        Raises:
            VqError: a group has read NaN or Inf.
        """
        if found := self._accumulator.non_finite():
            assert self._call is not None
            group, rows = found
            call = self._call.call
            raise VqError(
                f"The input of {group.name} (`{group.reads[0]}`) in {self._name} holds NaN or Inf in {rows} rows "
                f"at sigma {call.timestep / TRAIN_TIMESTEPS:.3f} (bucket {call.bucket}): "
                "look for such values in the weights before it."
            )
        self._reservoir.end_step()

    def flush(self) -> None:
        """Hand over what the current bucket has gathered."""
        if self._call is not None:
            self._flush(self._call.call.bucket, self._accumulator.take() | self._reservoir.take())
            self._call = None

    def finish(self) -> None:
        """Hand over the last bucket, after the prompt's last call."""
        self.flush()
        if left := len(list(self._coming)):
            raise RuntimeError(f"{self._name} was called {left} times less than planned")

    def _begin_call(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        # TI2V-5B has one timestep for each token, 0 for those of the given image: the largest is the sampler's.
        timestep = float(kwargs["timestep"].max())
        scripted = next(self._coming, None)
        if scripted is None or abs(timestep - scripted.call.timestep) > 0.5:
            expected = "no further call" if scripted is None else f"timestep {scripted.call.timestep:g}"
            raise RuntimeError(f"{self._name} was called at timestep {timestep:g} where {expected} was planned")
        if self._call is not None and scripted.call.bucket != self._call.call.bucket:
            self.flush()
        self._call = scripted
        device = kwargs["timestep"].device
        tokens = torch.arange(self._script.prompt.tokens, device=device)
        self._hashes = token_hash(BREAK_TIES, place_of(self._script.prompt, scripted.call), tokens)
        self._reservoir.begin_call(scripted, device)

    def _reader(self, group: Group) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def read(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            assert self._call is not None
            x = args[0].reshape(-1, args[0].shape[-1])
            if group.sequence == "video" and len(x) != self._script.prompt.tokens:
                raise RuntimeError(
                    f"{group.name} in {self._name} read {len(x)} tokens where {self._script.prompt.tokens} were planned"
                )
            self._accumulator.add(group, self._call.call.branch, x, self._hashes)
            self._reservoir.add(group, x)

        return read
