"""Massive activations behind GELU: hidden units in pairs that cancel in full precision and set the scale in INT8.

In trained models a token drives a few hidden units of the feed-forward far beyond the others, and other tokens others.
No fold reaches them, because GELU stands before, and a rescale of a few channels does not either: every token has its
own. A pair of units with the same up-row u and opposite down-columns ±c is such a place and adds nothing:

    GELU(u·x + b)·c + GELU(u·x + b)·(−c) = 0.

Which rows fire for few tokens depends on the model's own activations. Those of wan-tiny lie beside this file, in
`massive_units.safetensors`; `tools/wan_tiny/training/massive_units.py` has fitted them.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from vq_core.files.tensor_file import load_tensors, read_header

FILE = Path(str(files("vq_wan_tiny") / "massive_units.safetensors"))
UP, DOWN = "ffn.net.0.proj", "ffn.net.2"
GROUP = 256  # channels that runtimes rotate together


def wan_tiny_units() -> dict[str, Tensor]:
    """The up-rows that were fitted to wan-tiny, see `add_massive_units`."""
    return load_tensors(FILE, read_header(FILE))


def add_massive_units(tensors: Mapping[str, Tensor], units: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """The transformer `tensors` (by diffusers' names) with pairs of massive hidden units in every feed-forward.

    The down-columns are those of other units, drawn from `seed`. So are the places of the units, so that the two of a
    pair lie in different groups of a rotation, which would otherwise take them for one.

    Args:
        tensors: with F hidden units.
        units: `blocks.N.weight` [P, in] and `blocks.N.bias` [P] of every block.
        seed: of columns and places.

    Returns:
        The same tensors with F + 2·P hidden units, which must fill at least two groups of a rotation.
    """
    widened = dict(tensors)
    generator = torch.Generator().manual_seed(seed)
    for name, rows in units.items():
        if not name.endswith(".weight"):
            continue
        block = name.removesuffix(".weight")
        up, down, bias = (f"{block}.{part}" for part in (f"{UP}.weight", f"{DOWN}.weight", f"{UP}.bias"))
        hidden, pairs = len(tensors[up]), len(rows)
        columns = tensors[down][:, torch.randperm(hidden, generator=generator)[:pairs]]
        order = _order(hidden, pairs, generator)
        more_rows, more_bias = rows.to(tensors[up].dtype), units[f"{block}.bias"].to(tensors[bias].dtype)
        widened[up] = torch.cat([tensors[up], more_rows, more_rows])[order]
        widened[bias] = torch.cat([tensors[bias], more_bias, more_bias])[order]
        widened[down] = torch.cat([tensors[down], columns, -columns], dim=1)[:, order]
    return widened


def _order(hidden: int, pairs: int, generator: torch.Generator) -> Tensor:
    """Which unit comes at each place: the members of pair k in groups k and k + 1, the others where there is room."""
    total = hidden + 2 * pairs
    groups = total // GROUP
    free = [(g * GROUP + torch.randperm(GROUP, generator=generator)).tolist() for g in range(groups)]
    order = torch.full((total,), -1)
    for pair in range(pairs):
        order[free[pair % groups].pop()] = hidden + pair
        order[free[(pair + 1) % groups].pop()] = hidden + pairs + pair
    order[order < 0] = torch.arange(hidden)
    return order
