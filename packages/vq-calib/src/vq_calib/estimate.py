"""What a run of `collect` will compute and write, estimated beforehand."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from vq_calib.planning.run_plan import RunPlan
from vq_calib.planning.token_plan import Tables, column
from vq_core.artifacts.stats import BRANCHES, OUTLIERS, SPLITS, TABLE_COLUMNS
from vq_core.artifacts.sums import zero_sums
from vq_core.sampling.condition_encoding import TEXT_TOKENS
from vq_core.sampling.schedule import BUCKETS
from vq_core.topology import Topology

BF16, INT64 = 2, 8
IMAGE_TOKENS = 257  # that CLIP makes of one image


@dataclass(frozen=True)
class Stratum:
    """Sampled rows of one split, bucket of sigma and branch."""

    split: str
    bucket: int
    branch: str
    rows: int


@dataclass(frozen=True)
class ComponentEstimate:
    """The estimate of one transformer.

    Attributes:
        calls: how often it is called for all prompts.
        strata: the strata with their sampled rows.
        sums_bytes: statistics by channel, counts and histograms on disk.
        rows_bytes: the sampled rows and their table on disk.
        outliers_bytes: the rows of highest absmax on disk.
        conditions_bytes: text and image rows on disk, at most: equal rows are stored once.
        device_bytes: sums, outliers and the sampled rows of one step, at most.
    """

    calls: int
    strata: list[Stratum]
    sums_bytes: int
    rows_bytes: int
    outliers_bytes: int
    conditions_bytes: int
    device_bytes: int

    @property
    def disk_bytes(self) -> int:
        """Everything on disk, at most."""
        return self.sums_bytes + self.rows_bytes + self.outliers_bytes + self.conditions_bytes


@dataclass(frozen=True)
class Estimate:
    """The estimate of a run; `seconds`, the time of sampling, is None where the time of a step is not known."""

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


def estimate(planned: RunPlan, seconds_per_step: float | None) -> Estimate:
    """What the run will do; `seconds_per_step` is the known time of one step with all its guidance branches."""
    components = {name: _component(planned, name) for name in planned.calls}
    steps = len(planned.prompts) * len({call.step for calls in planned.calls.values() for call in calls})
    return Estimate(
        prompts=len(planned.prompts),
        steps=steps,
        components=components,
        disk_bytes=sum(component.disk_bytes for component in components.values()),
        seconds=None if seconds_per_step is None else steps * seconds_per_step,
    )


def _component(planned: RunPlan, name: str) -> ComponentEstimate:
    topology, calls = planned.topologies[name], planned.calls[name]
    tables = None if planned.tables is None else planned.tables[name]
    video = [group for group in topology.groups if group.sequence == "video"]
    channels = sum(group.in_features for group in video)
    tokens = len(planned.prompts) * len(calls) * min((prompt.tokens for prompt in planned.prompts), default=0)
    outliers = min(OUTLIERS, tokens) * (channels * BF16 + len(video) * INT64)
    sampled = sum(len(table) for table in tables.values()) if tables else 0
    branches = len({call.branch for call in calls})
    one_bucket = [tensor for group in topology.groups for tensor in zero_sums(group).values()]
    sums = sum(tensor.numel() * tensor.element_size() for tensor in one_bucket)
    return ComponentEstimate(
        calls=len(calls) * len(planned.prompts),
        strata=_strata(tables) if tables else [],
        sums_bytes=sums * BUCKETS,
        rows_bytes=sampled * (channels * BF16 + len(TABLE_COLUMNS) * INT64),
        outliers_bytes=outliers,
        conditions_bytes=_conditions(topology, branches, planned) if tables else 0,
        device_bytes=sums + outliers + _largest_step(tables) * channels * BF16,
    )


def _conditions(topology: Topology, branches: int, planned: RunPlan) -> int:
    """Bytes of the conditions if all tokens differ: a text for each branch, and images that the branches share."""
    prompts, images = len(planned.prompts), 2 if "last_image" in planned.pipeline.inputs else 1
    rows = {"text": TEXT_TOKENS * branches * prompts, "image": images * IMAGE_TOKENS * prompts, "video": 0}
    return sum(rows[group.sequence] * (group.in_features * BF16 + len(SPLITS) * INT64) for group in topology.groups)


def _largest_step(tables: Tables | None) -> int:
    """The most rows that any step of any prompt samples."""
    steps: Counter[tuple[int, ...]] = Counter()
    for table in (tables or {}).values():
        steps.update(_pairs(table, "prompt", "step"))
    return max(steps.values(), default=0)


def _strata(tables: Tables) -> list[Stratum]:
    return [
        Stratum(split, bucket, BRANCHES[branch], rows)
        for split, table in tables.items()
        for (bucket, branch), rows in Counter(_pairs(table, "bucket", "branch")).items()
    ]


def _pairs(table: Tensor, *names: str) -> Iterator[tuple[int, ...]]:
    return zip(*(column(table, name).tolist() for name in names), strict=True)


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


def _rows_by_bucket(strata: Sequence[Stratum]) -> str:
    """The total, and rows by bucket with the branches joined by +."""
    buckets: dict[int, list[str]] = {}
    for stratum in strata:
        buckets.setdefault(stratum.bucket, []).append(str(stratum.rows))
    by_bucket = ", ".join(f"bucket {bucket}: {'+'.join(rows)}" for bucket, rows in sorted(buckets.items()))
    return f"{sum(stratum.rows for stratum in strata):,} ({by_bucket})"


def _size(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"
