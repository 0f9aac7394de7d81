"""Join the statistics of parts of a run. All parts together give exactly the bytes of the whole run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from vq_calib.observing.outliers import merge_outliers, no_outliers
from vq_calib.observing.sampled_rows import condition_names, merge_conditions
from vq_calib.planning.settings import RunSettings, settings_of
from vq_calib.planning.token_plan import rows_per_stratum, smallest
from vq_core.artifacts.stats import FORMAT, KIND, SPLIT_PARTS, SPLITS, ActivationStats, Split, open_stats
from vq_core.artifacts.sums import merge_sums, sum_names
from vq_core.errors import VqError
from vq_core.families import family_named
from vq_core.remote.location import Location
from vq_core.store.reader import require_same_model
from vq_core.store.writer import ComponentHeader, Header, create_artifact
from vq_core.topology import Group, shard_of

ABOUT_THE_PART = ("prompts", "parts")  # the settings that differ between parts of one run


def merge(inputs: Sequence[Location], output: Location, *, resume: bool = False) -> None:
    """Write the union of the parts `inputs`, given in any order, to `output`.

    Memory: one block's tensors of `output`, and of one input.

    Raises:
        VqError: an input is not an activation-stats artifact, or they are not parts of one run; `output` exists.
    """
    parts = [open_stats(path) for path in inputs]
    settings = [settings_of(part) for part in parts]
    order = sorted(range(len(parts)), key=lambda index: settings[index].prompts[0].index)
    parts, settings = [parts[index] for index in order], [settings[index] for index in order]
    _check(parts, settings)
    with create_artifact(output, _header(parts, settings), resume=resume) as writer:
        for component, entry in parts[0].artifact.manifest.components.items():
            topology = family_named(parts[0].artifact.manifest.family).topology(entry.config)
            unions = _unions(parts, settings[0].tokens, component) if settings[0].tokens else None
            for shard in topology.shards():
                file = f"{component}/{shard}.safetensors"
                if writer.has(file):
                    continue
                groups = [group for group in topology.groups if shard_of(group.name) == shard]
                tensors = _merged(parts, component, groups, unions)
                if shard == "non_block" and unions:
                    tensors |= {f"tokens.{SPLIT_PARTS[split]}": union.table for split, union in unions.items()}
                writer.write_tensors(file, tensors)


def _check(parts: Sequence[ActivationStats], settings: Sequence[RunSettings]) -> None:
    first, asked = parts[0].artifact, settings[0].model_dump()
    where: dict[int, Path] = {}
    for part, own in zip(parts, settings, strict=True):
        path = part.artifact.path
        fingerprints = {name: entry.fingerprint for name, entry in first.manifest.components.items()}
        require_same_model(part.artifact, fingerprints, first.path)
        for name, value in (own.model_dump() | {"tool": part.artifact.manifest.tool}).items():
            expected = first.manifest.tool if name == "tool" else asked[name]
            if name not in ABOUT_THE_PART and value != expected:
                raise VqError(
                    f"{path} was collected with {name} {value} and {first.path} with {expected}: "
                    "merge parts of one run."
                )
        for prompt in own.prompts:
            if prompt.index in where:
                raise VqError(
                    f"{path} and {where[prompt.index]} both hold prompt {prompt.index}: merge each part once."
                )
            where[prompt.index] = path


def _header(parts: Sequence[ActivationStats], settings: Sequence[RunSettings]) -> Header:
    manifest = parts[0].artifact.manifest
    prompts = sorted((prompt for own in settings for prompt in own.prompts), key=lambda prompt: prompt.index)
    labels = [label for own in settings for label in own.parts or ()]
    whole = len(prompts) == settings[0].total_prompts
    joined = settings[0].model_copy(update={"prompts": prompts, "parts": None if whole else labels})
    return Header(
        kind=KIND,
        format=FORMAT,
        tool=manifest.tool,
        family=manifest.family,
        model=manifest.model,
        components={
            name: ComponentHeader(entry.folder, entry.fingerprint, entry.config, entry.merged)
            for name, entry in manifest.components.items()
        },
        settings=joined.model_dump(),
    )


class _Union:
    """The sampled tokens of one split and component over all parts, and which rows of each part they are."""

    def __init__(self, tables: Sequence[Tensor], k: int) -> None:
        whole = torch.cat(list(tables))
        chosen = smallest(whole, k)
        self.table = whole[chosen]
        self._sources = []
        end = 0
        for table in tables:
            begin, end = end, end + len(table)
            mine = ((chosen >= begin) & (chosen < end)).nonzero().squeeze(1)
            self._sources.append((mine, chosen[mine] - begin))

    def place(self, rows: Tensor, part: int, of_part: Tensor) -> None:
        """Put the rows `of_part` of part number `part` where they belong in `rows`."""
        mine, theirs = self._sources[part]
        rows[mine] = of_part[theirs]


def _unions(parts: Sequence[ActivationStats], tokens: int, component: str) -> dict[Split, _Union]:
    # Every part runs the whole schedule, so the buckets and branches that one has seen are the strata.
    strata = int((parts[0].group(component, parts[0].groups(component)[0]).count > 0).sum())
    unions: dict[Split, _Union] = {}
    for split in SPLITS:
        name = f"tokens.{SPLIT_PARTS[split]}"
        tables = [part.artifact.tensors(component, [name])[name] for part in parts]
        unions[split] = _Union(tables, rows_per_stratum(tokens, split, strata))
    return unions


def _merged(
    parts: Sequence[ActivationStats],
    component: str,
    groups: Sequence[Group],
    unions: Mapping[Split, _Union] | None,
) -> dict[str, Tensor]:
    """The tensors of one shard; the parts are read one after another."""
    rows: dict[str, Tensor] = {}
    for split, union in (unions or {}).items():
        for group in groups:
            if group.sequence == "video":
                shape = (len(union.table), group.in_features)
                rows[f"{group.name}.{SPLIT_PARTS[split]}"] = torch.empty(shape, dtype=torch.bfloat16)
    merged: dict[str, Tensor] = {}
    for number, part in enumerate(parts):
        for group in groups:
            tensors = part.artifact.tensors(component, _names(group, sampled=unions is not None))
            for split, union in (unions or {}).items():
                if group.sequence == "video":
                    name = f"{group.name}.{SPLIT_PARTS[split]}"
                    union.place(rows[name], number, tensors.pop(name))
            merged |= tensors if number == 0 else _joined(group, merged, tensors)
    return merged | rows


def _joined(group: Group, a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> dict[str, Tensor]:
    joined = merge_sums({name: a[name] for name in sum_names(group)}, b)
    if group.sequence == "video":
        return joined | merge_outliers(group, a, b)
    if condition_names(group)[0] in b:
        joined |= merge_conditions(group, [a, b])
    return joined


def _names(group: Group, *, sampled: bool) -> list[str]:
    if group.sequence == "video":
        rows = [f"{group.name}.{part}" for part in SPLIT_PARTS.values()]
        return [*sum_names(group), *no_outliers(group), *(rows if sampled else [])]
    return [*sum_names(group), *(condition_names(group) if sampled else [])]
