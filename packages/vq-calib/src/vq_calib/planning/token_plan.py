"""Which tokens are sampled: chosen from hashes before anything runs, the same for every input of a transformer.

A table of tokens is int64 `[n, 6]` with the columns `TABLE_COLUMNS`. A stratum is a bucket of sigma and a guidance
branch; a table keeps the k smallest keys of each stratum. Choosing again from what was chosen in each part gives the
choice from all tokens, so parts merge to exactly the whole run's choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vq_calib.planning.calib_prompts import CalibPrompt
from vq_calib.planning.hashing import HOLD_OUT, SAMPLE, token_hash, upper_bits
from vq_core.artifacts.stats import SPLITS, TABLE_COLUMNS, Split
from vq_core.sampling.schedule import Call

KEY_BITS = 63  # bits of the hash in a key, so that keys are not negative as int64
HELD_OUT_SHARE = 4  # fit tokens for each held-out token
BY_TOKEN_SHARE = 5  # of a single prompt's tokens, every fifth is held out on average

Tables = dict[Split, Tensor]
"""Sampled tokens by split, in canonical order."""


def rows_per_stratum(tokens: int, split: Split, strata: int) -> int:
    """How many rows of `split` each of `strata` strata keeps, rounded up, where `tokens` rows are to be fitted to."""
    budget = tokens if split == "fit" else -(-tokens // HELD_OUT_SHARE)
    return -(-budget // strata)


def plan_tokens(prompts: Sequence[CalibPrompt], calls: Sequence[Call], tokens: int) -> Tables:
    """The tokens of one transformer to sample: about `tokens` to fit to, and a quarter as many held out.

    Memory: the chosen tokens and those of one call.
    """
    strata = len({(call.bucket, call.branch) for call in calls})
    return {split: _plan_split(prompts, calls, split, rows_per_stratum(tokens, split, strata)) for split in SPLITS}


def _plan_split(prompts: Sequence[CalibPrompt], calls: Sequence[Call], split: Split, k: int) -> Tensor:
    chosen: dict[tuple[int, int], Tensor] = {}
    for prompt in prompts:
        for call in calls:
            stratum = (call.bucket, call.branch)
            table = chosen.get(stratum, table_of(0))
            limit = int(column(table, "key")[-1]) if len(table) == k else None
            table = torch.cat([table, _candidates(prompt, call, split, limit)])
            chosen[stratum] = table[smallest(table, k)]
    return torch.cat([table_of(0), *(chosen[stratum] for stratum in sorted(chosen))])


def _candidates(prompt: CalibPrompt, call: Call, split: Split, limit: int | None) -> Tensor:
    """The tokens of a call that are in `split` and whose key is not above `limit`."""
    tokens = torch.arange(prompt.tokens)
    tokens = tokens[in_split(prompt, call, split, tokens)]
    keys = upper_bits(token_hash(SAMPLE, place_of(prompt, call), tokens), KEY_BITS)
    if limit is not None:
        below = keys <= limit
        tokens, keys = tokens[below], keys[below]
    return table_of(
        len(tokens),
        bucket=call.bucket,
        branch=call.branch,
        key=keys,
        prompt=prompt.index,
        step=call.step,
        token=tokens,
    )


def place_of(prompt: CalibPrompt, call: Call) -> tuple[int, ...]:
    """The words of a hash that distinguish this call of this prompt from every other."""
    return (prompt.digest_word, prompt.seed, call.step, call.branch)


def in_split(prompt: CalibPrompt, call: Call, split: Split, tokens: Tensor) -> Tensor:
    """Which of `tokens` `[n]` belong to `split`, bool `[n]`."""
    if prompt.split != "by-token":
        return torch.full(tokens.shape, prompt.split == split)
    share = upper_bits(token_hash(HOLD_OUT, place_of(prompt, call), tokens), KEY_BITS)
    held_out = share < 2**KEY_BITS // BY_TOKEN_SHARE
    return held_out if split == "held-out" else ~held_out


@dataclass(frozen=True)
class ScriptedCall:
    """A call of a transformer and what to keep of it.

    Attributes:
        call: which one.
        tokens: int64 `[n]`, the tokens whose rows are sampled.
        positions: int64 `[n]`, where each row stands among all sampled rows, fit before held-out.
    """

    call: Call
    tokens: Tensor
    positions: Tensor


@dataclass(frozen=True)
class Script:
    """The calls of one transformer for one prompt; `samples` says whether any rows are sampled in the run."""

    prompt: CalibPrompt
    calls: tuple[ScriptedCall, ...]
    samples: bool


def script_of(prompt: CalibPrompt, calls: Sequence[Call], tables: Tables | None) -> Script:
    """What to keep of each call of `prompt`; `tables` None samples nothing."""
    table = torch.cat([tables[split] for split in SPLITS]) if tables else table_of(0)
    positions = (column(table, "prompt") == prompt.index).nonzero().squeeze(1)
    mine = table[positions]
    scripted = []
    for call in calls:
        here = (column(mine, "step") == call.step) & (column(mine, "branch") == call.branch)
        scripted.append(ScriptedCall(call, column(mine, "token")[here], positions[here]))
    return Script(prompt, tuple(scripted), samples=tables is not None)


def column(table: Tensor, name: str) -> Tensor:
    """One column of `table`, `[n]`."""
    return table[:, TABLE_COLUMNS.index(name)]


def table_of(rows: int, **columns: int | Tensor) -> Tensor:
    """A table of `rows` tokens; a number fills its whole column."""
    table = torch.empty(rows, len(TABLE_COLUMNS), dtype=torch.int64)
    for name, value in columns.items():
        column(table, name)[:] = value
    return table


def smallest(table: Tensor, k: int) -> Tensor:
    """Indices into `table` of the tokens with the `k` smallest keys of each stratum, in canonical order.

    The order is lexicographic by `TABLE_COLUMNS`: by stratum, then by key, then by the position of the token.
    """
    order = torch.arange(len(table))
    for name in reversed(TABLE_COLUMNS):
        order = order[column(table, name)[order].argsort(stable=True)]
    ordered = table[order]
    strata = column(ordered, "bucket") * 2 + column(ordered, "branch")
    _, sizes = strata.unique_consecutive(return_counts=True)
    first = (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    return order[torch.arange(len(order)) - first < k]
