"""Ways to compute attention, one file per name that `--attention` takes; `auto` picks among them."""

from typing import Protocol, cast

import torch
from torch import Tensor

from vq_core.discover import load_plugin, plugin_names
from vq_core.errors import VqError

AUTO = "auto"
FULL_PRECISION = 0.004
"""Relative error up to which attention counts as that of 16-bit numbers; theirs is 0.0025 at most."""


class Attention(Protocol):
    """What an attention's module provides."""

    NAME: str
    """How summaries call it."""

    ERROR: float
    """‖O − O₃₂‖ / ‖O₃₂‖ at most, against attention in fp32, as measured on the inputs of `tools/bench/attention.py`."""

    def unavailable(self, device: torch.device) -> str | None:
        """Why it cannot run on `device`, one sentence without a full stop; None where it can."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q kᵀ / √head_dim) v, every query over every key.

        q: `[batch, queries, heads, head_dim]`; k and v: `[batch, keys, heads, head_dim]`; each may be a strided view
        whose last dimension is contiguous. The output has the shape and dtype of q.
        """


def attention_names() -> list[str]:
    """What `--attention` takes, `auto` first."""
    return [AUTO, *plugin_names(__name__)]


def load_attention(name: str) -> Attention:
    """The attention called `name`.

    Raises:
        VqError: there is none of that name; the message lists the known ones.
    """
    return cast(Attention, load_plugin(__name__, name))


def availability(device: torch.device) -> dict[str, str | None]:
    """For each attention why it cannot run on `device`, or None where it can."""
    return {name: load_attention(name).unavailable(device) for name in plugin_names(__name__)}


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
    from vq_infer.attention_choice import Fastest

    usable = [load_attention(other) for other, why in availability(device).items() if why is None]
    exact = tuple(attention for attention in usable if tolerance >= attention.ERROR)
    if not exact:
        best = min(attention.ERROR for attention in usable)
        raise VqError(f"--attention auto: none here has an error of at most {tolerance:g}: allow {best:g} or more.")
    return Fastest(exact, tolerance)
