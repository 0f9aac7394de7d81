"""Ways to compute attention, one file for each name that `--attention` takes; `auto` picks among them."""

from typing import Protocol, cast

import torch
from torch import Tensor

from vq_core.discover import load_plugin, plugin_names

AUTO = "auto"
FULL_PRECISION = 0.004
"""Largest relative error of attention that counts as full precision; attention in 16 bits has at most 0.0025."""


class Attention(Protocol):
    """A way to compute attention."""

    NAME: str
    """What summaries call it."""

    ERROR: float
    """Largest ‖O − O₃₂‖ / ‖O₃₂‖ against attention in fp32, measured on the inputs of `tools/bench/attention.py`."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """softmax(q kᵀ / √head_dim) v, every query over every key.

        q: `[batch, queries, heads, head_dim]`; k and v: `[batch, keys, heads, head_dim]`; each may be a strided view
        whose last dimension is contiguous. The output has the shape and dtype of q.
        """


class AttentionModule(Attention, Protocol):
    """What an attention's module provides."""

    def unavailable(self, device: torch.device) -> str | None:
        """Why it cannot run on `device`, one sentence without a full stop; None where it can."""


def attention_names() -> list[str]:
    """What `--attention` takes, `auto` first."""
    return [AUTO, *plugin_names(__name__)]


def load_attention(name: str) -> AttentionModule:
    """The attention called `name`.

    Raises:
        VqError: there is none of that name; the message lists the known ones.
    """
    return cast(AttentionModule, load_plugin(__name__, name))


def availability(device: torch.device) -> dict[str, str | None]:
    """For each attention why it cannot run on `device`, or None where it can."""
    return {name: load_attention(name).unavailable(device) for name in plugin_names(__name__)}
