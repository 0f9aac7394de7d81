"""How hard a model is to quantize, by its activation statistics: outlier channels by place and noise level."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from statistics import median

import torch
from rich.table import Table
from torch import Tensor

from vq_calib.planning.settings import settings_of
from vq_core.artifacts.histograms import HISTOGRAMS
from vq_core.artifacts.stats import SPLITS, ActivationStats, GroupStats, open_stats
from vq_core.remote.location import Location
from vq_core.runtime.terminal import new_console
from vq_core.sampling.schedule import BUCKETS
from vq_core.topology import place_of

OUTLIER_RATIO = 10.0
TAIL = 0.999
MIN_WIDTH = 120  # columns of the terminal
LEGEND = (
    "ratio: largest channel absmax / median channel absmax, over all tokens and per bucket of sigma; "
    f"outliers: channels with absmax > {OUTLIER_RATIO:g} × the median; "
    "medians leave out channels that are always zero; "
    f"crest: absmax / root mean square of a token, {TAIL:.1%} of the tokens are below."
)


@dataclass(frozen=True)
class Row:
    """The input of one group, or of the groups at one place in all blocks: then each figure is the largest of theirs.

    Attributes:
        blocks: how many groups the row stands for.
        channels: width of the input.
        absmax: largest magnitude of any token and channel.
        median_absmax: median over the channels of each channel's absmax; of several groups the median of theirs.
        ratio: largest channel absmax / median; 0 where nothing was seen.
        outliers: number of channels with absmax > `OUTLIER_RATIO` × median.
        crest: the `TAIL` quantile over the tokens of absmax / root mean square, rounded up to half an octave; None
            where nothing was seen.
        bucket_ratios: `ratio` per bucket, sigma rising; None where the bucket was not seen.
    """

    blocks: int
    channels: int
    absmax: float
    median_absmax: float
    ratio: float
    outliers: int
    crest: float | None
    bucket_ratios: tuple[float | None, ...]


def describe(stats: GroupStats, crest_histogram: Tensor) -> Row:
    """The figures of one group; `crest_histogram` is int64 `[buckets, branches, bins]`."""
    channel_absmax = stats.overall_absmax
    typical = _median(channel_absmax)
    seen = stats.count.sum(dim=1) > 0
    per_bucket = stats.absmax.amax(dim=1)
    return Row(
        blocks=1,
        channels=len(channel_absmax),
        absmax=channel_absmax.max().item(),
        median_absmax=typical,
        ratio=_ratio(channel_absmax),
        outliers=int((channel_absmax > OUTLIER_RATIO * typical).sum()),
        crest=HISTOGRAMS["crest"].quantile(crest_histogram.sum(dim=(0, 1)), TAIL),
        bucket_ratios=tuple(_ratio(per_bucket[bucket]) if seen[bucket] else None for bucket in range(BUCKETS)),
    )


def _median(channel_absmax: Tensor) -> float:
    alive = channel_absmax[channel_absmax > 0]
    return torch.quantile(alive.double(), 0.5).item() if len(alive) else 0.0


def _ratio(channel_absmax: Tensor) -> float:
    typical = _median(channel_absmax)
    return channel_absmax.max().item() / typical if typical else 0.0


def by_place(rows: Mapping[str, Row]) -> dict[str, Row]:
    """Rows of the same place in all blocks as one, such as `attn1.qkv` for every `blocks.N.attn1.qkv`."""
    places: dict[str, list[Row]] = {}
    for group, row in rows.items():
        places.setdefault(place_of(group), []).append(row)
    return {place: _together(members) for place, members in places.items()}


def _together(rows: list[Row]) -> Row:
    buckets = zip(*(row.bucket_ratios for row in rows), strict=True)
    return Row(
        blocks=len(rows),
        channels=rows[0].channels,
        absmax=max(row.absmax for row in rows),
        median_absmax=median(row.median_absmax for row in rows),
        ratio=max(row.ratio for row in rows),
        outliers=max(row.outliers for row in rows),
        crest=_largest(row.crest for row in rows),
        bucket_ratios=tuple(map(_largest, buckets)),
    )


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def worst(rows: Mapping[str, Row], count: int) -> dict[str, Row]:
    """The `count` groups with the largest ratio, largest first."""
    names = sorted(rows, key=lambda name: rows[name].ratio, reverse=True)[:count]
    return {name: rows[name] for name in names}


def show(path: Location, *, every_group: bool, top: int | None, as_json: bool) -> None:
    """Print the statistics in `path`: a row per place in the block, per group, or for the `top` worst groups.

    Raises:
        VqError: `path` is not an activation-stats artifact, or is damaged.
    """
    stats = open_stats(path)
    tables = {}
    for component in stats.artifact.manifest.components:
        rows = {
            group: describe(stats.group(component, group), stats.histogram(component, group, "crest"))
            for group in stats.groups(component)
        }
        if top is not None:
            rows = worst(rows, top)
        elif not every_group:
            rows = by_place(rows)
        tables[component] = rows
    if as_json:
        content = {component: {name: asdict(row) for name, row in rows.items()} for component, rows in tables.items()}
        settings = stats.artifact.manifest.settings
        sampled = {component: {split: stats.sampled(component, split) for split in SPLITS} for component in tables}
        print(json.dumps({"settings": settings, "sampled": sampled, "components": content}, indent=2))
        return
    console = new_console(markup=False, highlight=False)
    console.width = max(console.width, MIN_WIDTH)  # a wrapped table can be read, a truncated number cannot
    for component, rows in tables.items():
        console.print(_table(_title(stats, component), rows))
    console.print(LEGEND)


def _title(stats: ActivationStats, component: str) -> str:
    settings = settings_of(stats)
    of = f" of {settings.total_prompts}" if settings.parts else ""
    kept = ", ".join(f"{stats.sampled(component, split):,} {split}" for split in SPLITS)
    return f"{component}, {len(settings.prompts)}{of} prompts, sampled tokens: {kept if stats.has_tokens else 'none'}"


def _table(title: str, rows: Mapping[str, Row]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("input of")
    for column in ("channels", "absmax", "median", "ratio", "outliers", "crest", "ratio by σ, 0 → 1"):
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(
            name,
            str(row.channels),
            _number(row.absmax),
            _number(row.median_absmax),
            _number(row.ratio),
            str(row.outliers),
            _number(row.crest),
            "".join(f"{_number(ratio):>5}" for ratio in row.bucket_ratios),
        )
    return table


def _number(value: float | None) -> str:
    """`value` with three digits, or all digits before the point; four characters where it is below 10 000."""
    if value is None:
        return "–"
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
