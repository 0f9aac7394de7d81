"""`--attention auto`: measured on the device, on the first inputs of every shape."""

import logging
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_infer.attention import AUTO, FULL_PRECISION, Attention, availability, load_attention

LOG = logging.getLogger(__name__)

PROBED_QUERIES = 256
"""Queries, evenly spaced, whose outputs are compared with attention in fp32."""

REPEATS = 3

Shape = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


class Fastest:
    """Of `candidates`, for every shape of inputs the fastest whose error on the first of them is within `tolerance`.

    The candidates' own `ERROR`, measured on inputs that are harder than a model's, is expected to be within it already.

    Attributes:
        NAME: once it has chosen, what.
    """

    def __init__(self, candidates: tuple[Attention, ...], tolerance: float) -> None:
        self.NAME = "the fastest exact enough"
        self.candidates = candidates
        self.tolerance = tolerance
        self.ERROR = tolerance
        self.chosen: dict[Shape, Attention] = {}

    def unavailable(self, device: torch.device) -> str | None:
        """See `Attention.unavailable`."""
        return None

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Attention.attend`.

        Raises:
            VqError: no candidate is exact enough on inputs of a shape met for the first time.
        """
        shape = (tuple(q.shape), tuple(k.shape), q.dtype)
        if shape not in self.chosen:
            self.chosen[shape] = self._choose(q, k, v)
            chosen = sorted({attention.NAME for attention in self.chosen.values()})
            self.NAME = f"the fastest exact enough: {', '.join(chosen)}"
        return self.chosen[shape].attend(q, k, v)

    def _choose(self, q: Tensor, k: Tensor, v: Tensor) -> Attention:
        if len(self.candidates) == 1:
            return self.candidates[0]
        errors = {attention: _error_where_it_runs(attention, q, k, v) for attention in self.candidates}
        exact = [attention for attention in self.candidates if errors[attention] <= self.tolerance]
        if not exact:
            raise VqError(
                f"--attention auto: the smallest error on inputs of the model is {min(errors.values()):.2g} "
                f"and {self.tolerance:g} is allowed: allow more, or choose an attention."
            )
        seconds = {attention: _seconds(partial(attention.attend, q, k, v), q.device) for attention in exact}
        best = min(exact, key=seconds.__getitem__)
        LOG.info(
            "attention over %d queries and %d keys: %s (%.2f ms, error %.2g)",
            q.shape[1], k.shape[1], best.NAME, seconds[best] * 1e3, errors[best],
        )  # fmt: skip
        return best


def select_attention(name: str, device: torch.device, tolerance: float = FULL_PRECISION) -> Attention:
    """The attention called `name`; for `auto`, the fastest whose relative error is at most `tolerance`.

    Raises:
        VqError: there is none of that name, it cannot run on `device`, or none is as exact as `tolerance`.
    """
    if name != AUTO:
        attention = load_attention(name)
        reason = attention.unavailable(device)
        if reason is not None:
            able = ", ".join(other for other, why in availability(device).items() if why is None)
            raise VqError(f"--attention {name}: {reason}; on {device} there are {able} and auto.")
        return attention
    usable = [load_attention(other) for other, why in availability(device).items() if why is None]
    exact = tuple(attention for attention in usable if tolerance >= attention.ERROR)
    if not exact:
        best = min(attention.ERROR for attention in usable)
        raise VqError(f"--attention auto: none here has an error of at most {tolerance:g}: allow {best:g} or more.")
    return Fastest(exact, tolerance)


def _error_where_it_runs(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> float:
    """`relative_error`, infinite where the attention does not take such a dtype or head size, or so many tokens."""
    try:
        return relative_error(attention, q, k, v)
    except (RuntimeError, VqError) as problem:
        LOG.info("%s is left out: %s", attention.NAME, problem)
        return float("inf")


def relative_error(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> float:
    """‖O − O₃₂‖ / ‖O₃₂‖ over `PROBED_QUERIES` of the queries; O₃₂ is softmax attention in fp32 on the same inputs."""
    rows = torch.linspace(0, q.shape[1] - 1, min(PROBED_QUERIES, q.shape[1]), device=q.device).long()
    out = attention.attend(q, k, v)[:, rows].float()
    difference = exact = 0.0
    for head in range(q.shape[2]):  # one head at a time: the logits of all would not fit
        queries, keys, values = (x[:, :, head].float() for x in (q[:, rows], k, v))
        weights = torch.softmax(queries @ keys.transpose(1, 2) * q.shape[-1] ** -0.5, dim=-1)
        reference = weights @ values
        difference += float((out[:, :, head] - reference).square().sum())
        exact += float(reference.square().sum())
    return float((difference / exact) ** 0.5)


def _seconds(run: Callable[[], Tensor], device: torch.device) -> float:
    """Fewest seconds of `REPEATS` runs after one that warms up."""
    run()
    taken = []
    for _ in range(REPEATS):
        _finish(device)
        start = time.perf_counter()
        run()
        _finish(device)
        taken.append(time.perf_counter() - start)
    return min(taken)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
