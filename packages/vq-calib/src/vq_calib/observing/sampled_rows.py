"""Sampled rows on disk: each prompt's in order of arrival, and those of all prompts in the order of the tables.

A prompt's file of one shard holds `GROUP.sampled` bf16 `[n, in]` with their `positions` int64 `[n]` among all sampled
rows (fit before held-out), and of conditions `GROUP.rows` and `GROUP.row_counts`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vq_calib.observing.unique_rows import unique_rows
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
            rows |= all_distinct(pieces, group)
    return rows


def all_distinct(files: Iterable[Path], group: Group) -> dict[str, Tensor]:
    """`GROUP.rows` and `GROUP.row_counts` of the union of `files`, of which some have none."""
    names = [f"{group.name}.rows", f"{group.name}.row_counts"]
    found = [load_tensors(path, names) for path in files if names[0] in read_header(path)]
    rows, counts = unique_rows(
        torch.cat([part[names[0]] for part in found]), torch.cat([part[names[1]] for part in found])
    )
    return {names[0]: rows, names[1]: counts}


def joined_rows(files: Sequence[Path], groups: Iterable[Group], tables: Tables) -> dict[str, Tensor]:
    """The artifact's tensors of the rows of one shard: of `files`, one of every prompt, in the order of `tables`."""
    joined: dict[str, Tensor] = {}
    positions = [load_tensors(path, ["positions"])["positions"] for path in files]
    sizes = [len(tables[split]) for split in SPLITS]
    for group in groups:
        if group.sequence != "video":
            joined |= all_distinct(files, group)
            continue
        rows = torch.empty(sum(sizes), group.in_features, dtype=torch.bfloat16)
        name = f"{group.name}.sampled"
        for path, place in zip(files, positions, strict=True):
            rows[place] = load_tensors(path, [name])[name]
        for split, part in zip(SPLITS, rows.split(sizes), strict=True):
            joined[f"{group.name}.{SPLIT_PARTS[split]}"] = part
    return joined
