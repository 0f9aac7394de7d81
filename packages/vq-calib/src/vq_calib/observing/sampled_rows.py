"""Sampled rows on disk: each prompt's in order of arrival, and those of all prompts in the order of the tables.

A prompt's file of one shard holds `GROUP.sampled` bf16 `[n, in]` with their `positions` int64 `[n]` among all sampled
rows (fit before held-out), and of conditions `GROUP.rows` and `GROUP.row_counts`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vq_calib.planning.token_plan import Tables
from vq_core.artifacts.stats import SPLIT_PARTS, SPLITS
from vq_core.files.tensor_file import load_tensors, read_header
from vq_core.topology import Group


def prompt_rows(pieces: Sequence[Path], groups: Iterable[Group]) -> dict[str, Tensor]:
    """The rows of `groups` in the files `pieces`, one of every bucket of a prompt, put together."""
    positions = [load_tensors(path, ["positions"])["positions"] for path in pieces]
    rows = {"positions": torch.cat(positions)}
    for group in groups:
        if group.sequence == "video":
            name = f"{group.name}.sampled"
            rows[name] = torch.cat([load_tensors(path, [name])[name] for path in pieces])
        else:
            rows |= _unique_rows_in(pieces, group)
    return rows


def joined_rows(files: Sequence[Path], groups: Iterable[Group], tables: Tables) -> dict[str, Tensor]:
    """The artifact's tensors of the rows of one shard: of `files`, one of every prompt, in the order of `tables`."""
    joined: dict[str, Tensor] = {}
    positions = [load_tensors(path, ["positions"])["positions"] for path in files]
    sizes = [len(tables[split]) for split in SPLITS]
    for group in groups:
        if group.sequence != "video":
            joined |= _unique_rows_in(files, group)
            continue
        rows = torch.empty(sum(sizes), group.in_features, dtype=torch.bfloat16)
        name = f"{group.name}.sampled"
        for path, place in zip(files, positions, strict=True):
            rows[place] = load_tensors(path, [name])[name]
        for split, part in zip(SPLITS, rows.split(sizes), strict=True):
            joined[f"{group.name}.{SPLIT_PARTS[split]}"] = part
    return joined


def _unique_rows_in(files: Iterable[Path], group: Group) -> dict[str, Tensor]:
    """The distinct rows of a condition in all `files`, some of which have none."""
    names = condition_names(group)
    return merge_conditions(group, [load_tensors(path, names) for path in files if names[0] in read_header(path)])


def merge_conditions(group: Group, parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The tensors `condition_names(group)` of the union of `parts`."""
    names = condition_names(group)
    return dict(zip(names, unique_rows(*(torch.cat([part[name] for part in parts]) for name in names)), strict=True))


def condition_names(group: Group) -> list[str]:
    """The tensors of a group that reads a condition: its distinct rows, and how many tokens each stands for."""
    return [f"{group.name}.rows", f"{group.name}.row_counts"]


def unique_rows(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Each row once, with the counts of all equal rows added up, in an order that only the rows decide.

    Two rows are equal if all their bits are.

    Args:
        rows: bf16 `[n, in]`, on the host.
        counts: int64 `[n, splits]`.

    Returns:
        bf16 `[m, in]` and int64 `[m, splits]`.
    """
    width = rows.shape[1]
    bits = rows.contiguous().view(torch.int16).numpy()
    whole = bits.view(np.dtype((np.void, 2 * width))).reshape(-1)
    kept, inverse = np.unique(whole, return_inverse=True)
    total = torch.zeros(len(kept), counts.shape[1], dtype=torch.int64)
    total.index_add_(0, torch.from_numpy(inverse.reshape(-1)), counts)
    return torch.from_numpy(kept.view(np.int16).reshape(-1, width)).view(torch.bfloat16), total
