"""Noise of every linear, every block and the output of one transformer, added up while it runs beside its twin."""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from vq_core.artifacts.qparams import QuantParams
from vq_core.artifacts.weights import SmoothedTransformer
from vq_core.errors import VqError
from vq_core.numerics.centering import offset_by
from vq_core.numerics.grouped import quantize_to
from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.rotation import NONE, rotate
from vq_core.sampling.schedule import Call
from vq_core.topology import LinearSink, ModulationSink
from vq_eval.layers.lockstep import WHOLE, ModuleCall
from vq_eval.layers.schema import Kind
from vq_eval.record import BRANCHES, Branch, Record

TOKENS_AT_ONCE = 4096
"""Rows whose outputs are computed and compared together: a 14B model's feed-forward takes 0.2 GB of them in fp32."""


POWERS = ("signal", "own_signal", "own", "in_place", "rounding")
"""The sums of a `SumRow`, in the order in which the meter adds them up."""


class SumRow(Record):
    """Powers of one place in one bucket and branch; 0 for a power that its kind does not have.

    Attributes:
        signal: Σ of full precision's output squared.
        own_signal: the power that `own` is compared with: for a block, its output less its input; else the output.
        own, in_place, rounding: Σ of the squared error of the output, see `vq_eval.layers.schema.Place`.
    """

    component: str
    kind: Kind
    name: str
    bucket: int
    branch: Branch
    signal: float
    own_signal: float
    own: float
    in_place: float
    rounding: float


class SumRows(Record):
    """The sums of one prompt."""

    rows: tuple[SumRow, ...]


class _Between(NamedTuple):
    """What lies between a linear of the model and its twin; None for nothing.

    Attributes:
        gain_in, gain_out: what smoothing has multiplied its input and its output by, without what the twin's own does.
        less_in, less_out: what centering has subtracted from them then.
    """

    gain_in: Tensor | None
    gain_out: Tensor | None
    less_in: Tensor | None
    less_out: Tensor | None

    def of_input(self, x: Tensor) -> Tensor:
        """What the twin reads where the model reads `x` `[tokens, in]`."""
        x = x if self.gain_in is None else x * self.gain_in
        return x if self.less_in is None else x - self.less_in

    def of_model(self, y: Tensor) -> Tensor:
        """What the model's linear would give where the twin's gives `y` `[tokens, out]`."""
        y = y if self.less_out is None else y + self.less_out
        return y if self.gain_out is None else y / self.gain_out


class NoiseMeter:
    """Compares the calls of one component's transformer with its quantized twin's, through one prompt."""

    def __init__(
        self,
        component: str,
        calls: Sequence[Call],
        full: nn.Module,
        twin: nn.Module,
        weights: SmoothedTransformer,
        qparams: QuantParams,
        device: str,
    ) -> None:
        """Measure `twin`, made from `weights` and `qparams`, over `calls` of one prompt."""
        self._component = component
        self._coming = iter(calls)
        self._call = next(self._coming, None)
        self.full, self.twin = full, twin
        self._topology = weights.topology
        self._across = cache(partial(weights.across_gain, device=device))
        self._qparams = qparams
        self._gain = cache(lambda group: _unless_ones(weights.gain(group.gain, device)))
        self._mean = cache(lambda group: qparams.mean(component, group, device))
        self._between = {linear.name: self._between_twins(linear.name) for linear in self._topology.linears}
        self._sums: dict[tuple[Kind, str, int, Branch], Tensor] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The modules to compare: linears and blocks."""
        return (*self._between, *blocks_of(self._between))

    def compare(self, exact: ModuleCall, ours: ModuleCall) -> None:
        """Add up one module's call; the call of the transformer itself ends a call of the sampler."""
        if exact.name in self._between:
            self._add("linear", exact.name, self._linear(exact, ours))
        elif exact.name != WHOLE:
            self._add("block", exact.name, self._block(exact, ours))
        else:
            output, twin_output = exact.output[0], ours.output[0]
            signal = _power(output.float())
            zero = torch.zeros_like(signal)
            noise = _power(twin_output.float() - output.float())
            self._add("output", WHOLE, torch.stack([signal, signal, zero, noise, zero]))
            self._end_call(float(exact.kwargs["timestep"].max()))

    def finish(self) -> list[SumRow]:
        """The sums in the order of the topology: linears, blocks, the output.

        Raises:
            VqError: something holds NaN or infinity.
        """
        if self._call is not None:
            raise RuntimeError(f"{self._component} was called less often than the sampler's schedule says")
        order = {name: position for position, name in enumerate((*self.names, WHOLE))}
        keys = sorted(self._sums, key=lambda key: order[key[1]])
        values = torch.stack([self._sums[key] for key in keys]).tolist()
        rows = []
        for (kind, name, bucket, branch), sums in zip(keys, values, strict=True):
            if not all(map(math.isfinite, sums)):
                raise VqError(
                    f"{name or 'The output'} of {self._component} gives NaN or Inf in bucket {bucket} ({branch}): "
                    "its codes or scales are damaged, so check the artifact with vq-export verify."
                )
            powers = dict(zip(POWERS, sums, strict=True))
            rows.append(SumRow(component=self._component, kind=kind, name=name, bucket=bucket, branch=branch, **powers))
        return rows

    def _end_call(self, timestep: float) -> None:
        call = self._call
        # TI2V-5B has a timestep per token, 0 for the tokens of the given image: the largest is the sampler's.
        if call is None or abs(timestep - call.timestep) > 0.5:
            raise RuntimeError(f"{self._component} was called at timestep {timestep:g}, which was not planned")
        self._call = next(self._coming, None)

    def _add(self, kind: Kind, name: str, sums: Tensor) -> None:
        if self._call is None:
            raise RuntimeError(f"{self._component} was called more often than the sampler's schedule says")
        key = (kind, name, self._call.bucket, BRANCHES[self._call.branch])
        before = self._sums.get(key)
        self._sums[key] = sums if before is None else before + sums

    def _linear(self, exact: ModuleCall, ours: ModuleCall) -> Tensor:
        full, twin = (side.get_submodule(exact.name) for side in (self.full, self.twin))
        between = self._between[exact.name]
        rounded = self._rounded(exact.name, full)
        inputs, outputs, twins = (_rows(tensor) for tensor in (exact.args[0], exact.output, ours.output))
        total = torch.zeros(5, dtype=torch.float64, device=outputs.device)
        for begin in range(0, len(inputs), TOKENS_AT_ONCE):
            rows = slice(begin, begin + TOKENS_AT_ONCE)
            x, y = inputs[rows].float(), outputs[rows].float()
            # `forward`, because a call would trigger the lockstep's hooks again.
            own = between.of_model(twin.forward(between.of_input(x)))
            in_place = between.of_model(twins[rows].float())
            signal = _power(y)
            noises = [_power(approximation - y) for approximation in (own, in_place, rounded(x))]
            total += torch.stack([signal, signal, *noises])
        return total

    def _rounded(self, name: str, full: nn.Module) -> Callable[[Tensor], Tensor]:
        """The model's own linear `name`, rounded to nearest; rotated where the scheme knows nothing else."""
        scheme = self._qparams.scheme_of(self._component, name)
        group = self._qparams.rotation(self._component, name) if scheme.grouped else NONE
        weight = quantize_to(scheme, rotate(full.get_parameter("weight"), group))._replace(rotation=group)
        bias, activation = full.get_parameter("bias").float(), scheme.activation
        return lambda x: w8a8_linear(x, weight, bias, activation)

    def _block(self, exact: ModuleCall, ours: ModuleCall) -> Tensor:
        block = self.twin.get_submodule(exact.name)
        arguments, twin_arguments = _arguments(block, exact), _arguments(block, ours)
        # What is folded into the embedded text and the timestep is not an error: the twin reads its own.
        conditions = {name: twin_arguments[name] for name in ("encoder_hidden_states", "temb")}
        alone = block.forward(**(arguments | conditions))
        before, after = _stream(arguments).float(), _last(exact.output).float()
        own, in_place = (_power(_last(output).float() - after) for output in (alone, ours.output))
        return torch.stack([_power(after), _power(after - before), own, in_place, torch.zeros_like(own)])

    def _between_twins(self, linear: str) -> _Between:
        group = self._topology.group_of(linear)
        gain_in, less_in = self._gain(group), self._mean(group)
        if isinstance(group.sink, ModulationSink):
            # A modulated norm's own gain is applied by the twin's linear itself; that of all blocks is in its input.
            less_in = less_in if less_in is None or gain_in is None else less_in / gain_in
            gain_in = self._across(group)
        gain_out = next(
            (
                self._gain(other)
                for other in self._topology.groups
                for sink in (other.sink, other.gelu_sink)
                if isinstance(sink, LinearSink) and linear in sink.linears
            ),
            None,
        )
        behind = offset_by(self._topology, linear)
        return _Between(gain_in, gain_out, less_in, self._mean(behind) if behind else None)


def blocks_of(linears: Sequence[str] | Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the blocks that hold `linears`, such as `blocks.3`, in their order."""
    return tuple(dict.fromkeys(".".join(linear.split(".")[:2]) for linear in linears))


def _arguments(block: nn.Module, call: ModuleCall) -> dict[str, Any]:
    return inspect.signature(block.forward).bind(*call.args, **call.kwargs).arguments


def _stream(arguments: Mapping[str, Any]) -> Tensor:
    """The stream that a block adds to: the video's tokens, or in VACE's second stack the control's."""
    stream: Tensor = arguments.get("control_hidden_states", arguments["hidden_states"])
    return stream


def _last(output: Any) -> Tensor:
    """The stream that a block returns; VACE's second stack returns a hint before it."""
    stream: Tensor = output[-1] if isinstance(output, tuple) else output
    return stream


def _rows(tensor: Tensor) -> Tensor:
    return tensor.flatten(0, -2)


def _power(x: Tensor) -> Tensor:
    return x.square().sum(dtype=torch.float64)


def _unless_ones(gain: Tensor) -> Tensor | None:
    return None if torch.all(gain == 1) else gain
