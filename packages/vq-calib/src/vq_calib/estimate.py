"""What a run of `collect` will compute and write, estimated beforehand."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from vq_calib.planning.run_plan import RunPlan
from vq_calib.planning.token_plan import Tables
from vq_calib.planning.token_table import column
from vq_core.artifacts.stats import BRANCHES, OUTLIERS, SPLITS, TABLE_COLUMNS
from vq_core.artifacts.sums import zero_sums
from vq_core.sampling.condition_encoding import TEXT_TOKENS
from vq_core.sampling.schedule import BUCKETS
from vq_core.topology import Group, Topology

BF16, INT64 = 2, 8
IMAGE_TOKENS = 257  # of CLIP's view of one image


@dataclass(frozen=True)
class Stratum:
    """Sampled rows of one split, bucket of sigma and branch."""

    split: str
    bucket: int
    branch: str
    rows: int


@dataclass(frozen=True)
class ComponentEstimate:
    """One transformer.

    Attributes:
        calls: of the transformer, over all prompts.
        strata: with their sampled rows.
        sums_bytes: of statistics by channel, counts and histograms, on disk.
        rows_bytes: of the sampled rows and their table, on disk.
        outliers_bytes: of the rows of highest absmax, on disk.
        conditions_bytes: of text and image rows, on disk, at most: equal ones are stored once.
        device_bytes: of sums, outliers and one step's sampled rows, at most.
    """

    calls: int
    strata: list[Stratum]
    sums_bytes: int
    rows_bytes: int
    outliers_bytes: int
    conditions_bytes: int
    device_bytes: int


@dataclass(frozen=True)
class Estimate:
    """A run; `seconds` of sampling is None where the time of a step is not known."""

    prompts: int
    steps: int
    components: dict[str, ComponentEstimate]
    disk_bytes: int
    seconds: float | None

    def rows(self) -> dict[str, str]:
        """The lines of the summary."""
        rows = {"prompts": str(self.prompts), "steps": f"{self.steps:,}"}
        for name, component in self.components.items():
            rows |= _component_rows(name, component)
        rows["written, at most"] = _size(self.disk_bytes)
        if self.seconds is not None:
            rows["sampling time"] = (
                f"{self.seconds / 3600:.1f} h ({self.seconds:,.0f} s), loading and encoding not included"
            )
        return rows

    def to_json(self) -> dict[str, object]:
        """The same for machines."""
        return asdict(self)


def estimate(planned: RunPlan, seconds_per_step: float | None) -> Estimate:
    """What the run will do; `seconds_per_step` is what one step, of both guidance branches, is known to take."""
    components = {name: _component(planned, name) for name in planned.calls}
    steps = len(planned.prompts) * len({call.step for calls in planned.calls.values() for call in calls})
    return Estimate(
        prompts=len(planned.prompts),
        steps=steps,
        components=components,
        disk_bytes=sum(
            it.sums_bytes + it.rows_bytes + it.outliers_bytes + it.conditions_bytes for it in components.values()
        ),
        seconds=None if seconds_per_step is None else steps * seconds_per_step,
    )


def _component(planned: RunPlan, name: str) -> ComponentEstimate:
    topology, calls = planned.topologies[name], planned.calls[name]
    tables = None if planned.tables is None else planned.tables[name]
    channels = sum(group.in_features for group in _reading_video(topology))
    tokens = len(planned.prompts) * len(calls) * min((prompt.tokens for prompt in planned.prompts), default=0)
    outliers = min(OUTLIERS, tokens) * (channels * BF16 + len(_reading_video(topology)) * INT64)
    sampled = sum(len(table) for table in tables.values()) if tables else 0
    branches = len({call.branch for call in calls})
    sums = sum(_sums_bytes(group) for group in topology.groups)
    return ComponentEstimate(
        calls=len(calls) * len(planned.prompts),
        strata=_strata(tables) if tables else [],
        sums_bytes=sums * BUCKETS,
        rows_bytes=sampled * (channels * BF16 + len(TABLE_COLUMNS) * INT64),
        outliers_bytes=outliers,
        conditions_bytes=_conditions(topology, branches, planned) if tables else 0,
        device_bytes=sums + outliers + _largest_step(tables) * channels * BF16,
    )


def _reading_video(topology: Topology) -> list[Group]:
    return [group for group in topology.groups if group.sequence == "video"]


def _sums_bytes(group: Group) -> int:
    """Of one bucket, both branches."""
    return sum(tensor.numel() * tensor.element_size() for tensor in zero_sums(group).values())


def _conditions(topology: Topology, branches: int, planned: RunPlan) -> int:
    """If every prompt's tokens differ: text of every branch, and first and last image, which the branches share."""
    prompts, images = len(planned.prompts), 2 if "last_image" in planned.pipeline.inputs else 1
    rows = {"text": TEXT_TOKENS * branches * prompts, "image": images * IMAGE_TOKENS * prompts, "video": 0}
    return sum(rows[group.sequence] * (group.in_features * BF16 + len(SPLITS) * INT64) for group in topology.groups)


def _largest_step(tables: Tables | None) -> int:
    """The most rows that any step of any prompt samples."""
    steps: dict[tuple[int, int], int] = {}
    for table in (tables or {}).values():
        for prompt, step in zip(column(table, "prompt").tolist(), column(table, "step").tolist(), strict=True):
            steps[prompt, step] = steps.get((prompt, step), 0) + 1
    return max(steps.values(), default=0)


def _strata(tables: Tables) -> list[Stratum]:
    counts: dict[tuple[str, int, int], int] = {}
    for split, table in tables.items():
        for bucket, branch in zip(column(table, "bucket").tolist(), column(table, "branch").tolist(), strict=True):
            counts[split, bucket, branch] = counts.get((split, bucket, branch), 0) + 1
    return [Stratum(split, bucket, BRANCHES[branch], rows) for (split, bucket, branch), rows in counts.items()]


def _component_rows(name: str, component: ComponentEstimate) -> dict[str, str]:
    rows = {
        f"{name}: calls": f"{component.calls:,}",
        f"{name}: sums": _size(component.sums_bytes),
        f"{name}: sampled rows": _size(component.rows_bytes),
        f"{name}: outliers": _size(component.outliers_bytes),
        f"{name}: text and image, at most": _size(component.conditions_bytes),
        f"{name}: device memory": _size(component.device_bytes),
    }
    for split in SPLITS:
        of_split = [stratum for stratum in component.strata if stratum.split == split]
        rows[f"{name}: {split} rows"] = _rows_by_bucket(of_split) if of_split else "none"
    return rows


def _rows_by_bucket(strata: Iterable[Stratum]) -> str:
    """The total, and rows by bucket with the branches joined by +."""
    strata = list(strata)
    buckets: dict[int, list[str]] = {}
    for stratum in strata:
        buckets.setdefault(stratum.bucket, []).append(str(stratum.rows))
    by_bucket = ", ".join(f"bucket {bucket}: {'+'.join(rows)}" for bucket, rows in sorted(buckets.items()))
    return f"{sum(stratum.rows for stratum in strata):,} ({by_bucket})"


def _size(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
