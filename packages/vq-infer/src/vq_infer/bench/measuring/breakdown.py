"""Where the time of one pass goes, by kind of work, beside the least that each kind could take."""

import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from heapq import nlargest
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from vq_infer.bench.measuring.ceilings import Ceilings
from vq_infer.bench.measuring.floor import Cost, block_costs
from vq_infer.bench.measuring.kinds import Kind, Launch, Shape, kind_of
from vq_infer.bench.measuring.trace import read_trace
from vq_infer.bench.models.workload import Workload
from vq_infer.timing import synchronize

NAMES_SHOWN = 3
LINEARS = (Kind.LINEAR_ATTENTION, Kind.LINEAR_FFN, Kind.LINEAR_CONTEXT)


@dataclass(frozen=True)
class Share:
    """One kind of work in one pass over all measured blocks.

    Attributes:
        milliseconds: on the device.
        kernels: names of those that took longest, the longest first.
        launches: how many.
    """

    milliseconds: float
    kernels: tuple[str, ...]
    launches: int


@dataclass(frozen=True)
class Line:
    """A kind's share beside its floor; flops, bytes and floor are 0 for kinds that have none."""

    kind: Kind
    share: Share
    flops: float
    bytes: float
    floor_ms: float


def profile_pass(work: Callable[[], object], device: torch.device) -> list[Launch]:
    """Everything that `work` launches on `device`."""
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device.type == "cuda" else [])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        with profile(activities=activities, record_shapes=True, acc_events=True) as profiler:
            work()
            synchronize(device)
        profiler.export_chrome_trace(str(path))
        return read_trace(path)


def shares(launches: Sequence[Launch], workload: Workload) -> dict[Kind, Share]:
    """The time by kind of work."""
    shape = Shape(workload.tokens, workload.dim, int(workload.config["ffn_dim"]))
    times: defaultdict[Kind, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    counts: Counter[Kind] = Counter()
    for launch in launches:
        kind = kind_of(launch, shape)
        times[kind][launch.name] += launch.microseconds / 1000
        counts[kind] += 1
    return {
        kind: Share(sum(names.values()), tuple(nlargest(NAMES_SHOWN, names, names.__getitem__)), counts[kind])
        for kind, names in times.items()
    }


def breakdown(
    by_kind: dict[Kind, Share], workload: Workload, ceilings: Ceilings, linears: str, attention: str, value_bytes: int
) -> list[Line]:
    """One line for each kind that ran or has a floor, in the order of `Kind`.

    If the kernels do not tell which linears they compute, all linears are one line with one floor.
    """
    costs = {kind: [cost] for kind, cost in block_costs(workload, linears, attention, value_bytes).items()}
    if not any(kind in by_kind for kind in LINEARS):
        costs[Kind.LINEAR] = [cost for kind in LINEARS for cost in costs.pop(kind)]
    return [
        _line(kind, by_kind.get(kind, Share(0.0, (), 0)), costs.get(kind, []), workload.blocks, ceilings)
        for kind in Kind
        if kind in by_kind or kind in costs
    ]


def _line(kind: Kind, share: Share, costs: Sequence[Cost], blocks: int, ceilings: Ceilings) -> Line:
    return Line(
        kind,
        share,
        flops=blocks * sum(cost.flops for cost in costs),
        bytes=blocks * sum(cost.bytes for cost in costs),
        floor_ms=1000 * blocks * sum(cost.seconds(ceilings) for cost in costs),
    )
