"""A 64-bit hash of a token's position, which decides what is sampled and breaks ties.

There is no generator whose state depends on what ran before, so every rank, every part of a run and every order of its
prompts chooses the same tokens.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

SAMPLE, HOLD_OUT, BREAK_TIES = range(3)
"""Purposes of a hash; hashes for different purposes are independent."""


def token_hash(purpose: int, place: Iterable[int], tokens: Tensor) -> Tensor:
    """Hash of each of `tokens`, int64 `[n]`, at `place`: h ← mix(h XOR word) over purpose, the words of `place`, token.

    Returns:
        int64 `[n]` on the device of `tokens`, all 64 bits uniform.
    """
    state = torch.zeros((), dtype=torch.int64)
    for word in (purpose, *place):
        state = _mix(state ^ _signed(word))
    return _mix(state.to(tokens.device) ^ tokens)


def upper_bits(hashes: Tensor, bits: int) -> Tensor:
    """The upper `bits` bits of int64 `hashes`, as numbers from 0."""
    return (hashes >> (64 - bits)) & ((1 << bits) - 1)


def _mix(x: Tensor) -> Tensor:
    """The step and finalizer of SplitMix64 (Steele, Lea and Flood, 2014), on int64 that wraps around."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ upper_bits(x, 64 - 30)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ upper_bits(x, 64 - 27)) * _signed(0x94D049BB133111EB)
    return x ^ upper_bits(x, 64 - 31)


def _signed(word: int) -> int:
    """The int64 with the bits of the unsigned 64-bit `word`."""
    return (word + 2**63) % 2**64 - 2**63
