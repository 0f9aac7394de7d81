"""`--attention auto`: measured on the device, on the first inputs of every shape."""

import logging

import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_infer.attention import AUTO, FULL_PRECISION, Attention, availability, load_attention
from vq_infer.timing import timed

LOG = logging.getLogger(__name__)

PROBED_QUERIES = 256
"""Number of queries, evenly spaced, whose outputs are compared with attention in fp32."""

REPEATS = 3

Shape = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]


class Fastest:
    """For every shape of inputs the fastest of `candidates` whose error on the first such inputs is within `tolerance`.

    The candidates' own `ERROR`, measured on inputs that are harder than a model's, should be within it already.

    Attributes:
        NAME: names what it has chosen so far.
    """

    def __init__(self, candidates: tuple[Attention, ...], tolerance: float) -> None:
        self.NAME = "automatic attention"
        self.ERROR = tolerance
        self.chosen: dict[Shape, Attention] = {}
        self._candidates = candidates

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """See `Attention.attend`.

        Raises:
            VqError: no candidate is exact enough on the first inputs of this shape.
        """
        shape = (tuple(q.shape), tuple(k.shape), q.dtype)
        if shape not in self.chosen:
            self.chosen[shape] = self._choose(q, k, v)
            chosen = sorted({attention.NAME for attention in self.chosen.values()})
            self.NAME = f"automatic attention ({', '.join(chosen)})"
        return self.chosen[shape].attend(q, k, v)

    def _choose(self, q: Tensor, k: Tensor, v: Tensor) -> Attention:
        if len(self._candidates) == 1:
            return self._candidates[0]
        errors = {attention: _error_where_it_runs(attention, q, k, v) for attention in self._candidates}
        exact = [attention for attention in self._candidates if errors[attention] <= self.ERROR]
        if not exact:
            raise VqError(
                f"--attention auto: the smallest error on the model's inputs is {min(errors.values()):.2g} and "
                f"{self.ERROR:g} is allowed: raise --attention-tolerance, or choose an attention."
            )
        seconds = {attention: _seconds(attention, q, k, v) for attention in exact}
        best = min(exact, key=seconds.__getitem__)
        LOG.info(
            "attention over %d queries and %d keys: %s (%.2f ms, error %.2g)",
            q.shape[1], k.shape[1], best.NAME, seconds[best] * 1e3, errors[best],
        )  # fmt: skip
        return best


def select_attention(name: str, device: torch.device, tolerance: float = FULL_PRECISION) -> Attention:
    """The attention called `name`; for `auto`, the fastest whose relative error is at most `tolerance`.

    Raises:
        VqError: there is no such attention, it cannot run on `device`, or none is within `tolerance`.
    """
    if name != AUTO:
        attention = load_attention(name)
        reason = attention.unavailable(device)
        if reason is not None:
            able = ", ".join(other for other, why in availability(device).items() if why is None)
            raise VqError(f"--attention {name}: {reason}: choose {able} or auto, which run on {device}.")
        return attention
    usable = [load_attention(other) for other, why in availability(device).items() if why is None]
    exact = tuple(attention for attention in usable if tolerance >= attention.ERROR)
    if not exact:
        best = min(attention.ERROR for attention in usable)
        raise VqError(f"--attention-tolerance {tolerance:g} is below every attention's error: give {best:g} or more.")
    return Fastest(exact, tolerance)


def _error_where_it_runs(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> float:
    """`relative_error`; infinite if the attention does not support this dtype, head size or number of tokens."""
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


def _seconds(attention: Attention, q: Tensor, k: Tensor, v: Tensor) -> float:
    """Fewest seconds of `REPEATS` runs after one that warms up."""
    attention.attend(q, k, v)
    return min(timed(lambda: attention.attend(q, k, v), q.device) for _ in range(REPEATS))
