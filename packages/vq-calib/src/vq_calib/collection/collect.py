"""Run the real pipeline over prompts and write the statistics of what its transformers' linears read."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from statistics import median
from typing import cast

import torch

from vq_calib.collection.totals import INSEPARABLE, Totals
from vq_calib.observing.hooks import Observer
from vq_calib.observing.reduction import Reduction, reduction_for
from vq_calib.planning.calib_prompts import CalibPrompt, digest_of
from vq_calib.planning.run_plan import CollectRequest, RunPlan, plan_run
from vq_calib.planning.settings import PromptEntry, RunSettings
from vq_calib.planning.token_plan import script_of
from vq_core.artifacts.stats import SPLITS, open_stats, stats_header
from vq_core.errors import VqError
from vq_core.files.folder_content import size_of
from vq_core.remote.location import Location
from vq_core.remote.transfer import exists
from vq_core.runtime.progress import Advance, progress
from vq_core.sampling.pipeline import Conditions
from vq_core.sampling.schedule import BUCKETS
from vq_core.sampling.told_by_files import told_by
from vq_core.store.writer import Header, create_artifact


@dataclass(frozen=True)
class Collected:
    """What a run of `collect` or `merge` wrote.

    Attributes:
        output: the artifact.
        size_bytes: its size.
        prompts: how many prompts it covers.
        resumed_prompts: how many of them an earlier, interrupted run had finished.
        tokens: by component, how many tokens one linear of self-attention has read.
        sampled: by component and split, how many rows were kept of every input that reads the video.
        step_seconds: median time of a sampling step, statistics included; None where no two steps were run.
    """

    output: Location
    size_bytes: int
    prompts: int
    resumed_prompts: int
    tokens: dict[str, int]
    sampled: dict[str, dict[str, int]]
    step_seconds: float | None

    def rows(self) -> dict[str, str]:
        """The lines of the summary."""
        resumed = f" ({self.resumed_prompts} of them before)" if self.resumed_prompts else ""
        rows = {"prompts": f"{self.prompts}{resumed}"}
        rows |= {f"tokens per linear, {name}": f"{count:,}" for name, count in self.tokens.items()}
        for name, splits in self.sampled.items():
            kept = ", ".join(f"{count:,} {split}" for split, count in splits.items())
            rows[f"sampled tokens, {name}"] = kept if any(splits.values()) else "none"
        if self.step_seconds is not None:
            rows["per step"] = f"{self.step_seconds:.2f} s"
        return rows | {"output": str(self.output), "size": f"{self.size_bytes / 2**20:.1f} MiB"}


def collect(request: CollectRequest, output: Location, *, resume: bool = False) -> Collected:
    """Sample every prompt (prompt i with seed `sampling.seed` + i) and write the statistics to `output`.

    The sums are on disk after every prompt. With `resume`, a killed run continues from there to the same bits.

    Raises:
        VqError: model, prompts, settings or device do not fit; `output` exists; a linear reads NaN or Inf; a
            transformer is never called.
    """
    planned = plan_run(request)
    reduction = reduction_for(planned.pipeline.device)
    step_seconds = None
    header = header_of(planned, reduction.name)
    with create_artifact(output, header, resume=resume, inseparable=INSEPARABLE) as writer:
        totals = Totals(writer, planned.topologies, planned.tables)
        resumed = len(planned.prompts) if totals.complete else totals.prompts
        if not totals.complete:
            step_seconds = _sample(planned, reduction, totals)
            totals.finish()
    return describe(output, resumed_prompts=resumed, step_seconds=step_seconds)


def _sample(planned: RunPlan, reduction: Reduction, totals: Totals) -> float | None:
    """Sample the prompts that are not in `totals` yet; the median time of a step, if any two were run."""
    left = planned.prompts[totals.prompts :]
    if not left:
        return None
    seconds: list[float] = []
    sampling = planned.request.sampling
    conditions = planned.pipeline.encode([planned.samples[prompt.index] for prompt in left], sampling)
    with progress("calibrate", len(left) * sampling.steps, "step") as advance:
        for prompt, condition in zip(left, conditions, strict=True):
            with _observed(planned, prompt, reduction, totals) as observers:
                seconds += _sample_one(planned, prompt, condition, observers, advance)
            totals.end_prompt()
    return median(seconds) if seconds else None


def _sample_one(
    planned: RunPlan, prompt: CalibPrompt, conditions: Conditions, observers: list[Observer], advance: Advance
) -> list[float]:
    """Sample one prompt under the eyes of `observers`; the time of every step but the first, in seconds."""
    ends: list[float] = []

    def end_step() -> None:
        for observer in observers:
            observer.end_step()
        ends.append(time.monotonic())
        advance()

    planned.pipeline.denoise(conditions, planned.request.sampling, prompt.seed, end_step)
    for observer in observers:
        observer.finish()
    return [after - before for before, after in pairwise(ends)]


@contextmanager
def _observed(planned: RunPlan, prompt: CalibPrompt, reduction: Reduction, totals: Totals) -> Iterator[list[Observer]]:
    """Watch every transformer within the block."""
    with ExitStack() as stack:
        observers = []
        for component, transformer in planned.pipeline.transformers.items():
            tables = None if planned.tables is None else planned.tables[component]
            observer = Observer(
                f"{component}, prompt {prompt.index},",
                planned.topologies[component].groups,
                script_of(prompt, planned.calls[component], tables),
                reduction=reduction,
                flush=partial(totals.add_bucket, component),
            )
            stack.enter_context(observer.attached(transformer))
            observers.append(observer)
        yield observers


def finished_before(request: CollectRequest, output: Location) -> Collected | None:
    """What `output` holds, if an earlier run of the same request has finished it; None if there is nothing.

    Raises:
        VqError: it was collected from another model, or with other settings.
    """
    if not exists(output):
        return None
    planned = plan_run(request)
    header = header_of(planned, reduction_for(planned.pipeline.device).name)
    manifest = open_stats(output).artifact.manifest
    fingerprints = {name: entry.fingerprint for name, entry in manifest.components.items()}
    if (fingerprints, manifest.tool, manifest.settings) != (planned.source.fingerprints, header.tool, header.settings):
        raise VqError(f"{output} was collected with other settings: remove it, or run the command that made it.")
    return describe(output, resumed_prompts=len(planned.prompts))


def header_of(planned: RunPlan, reduction: str) -> Header:
    """The header of the statistics that a run writes."""
    request = planned.request
    digests = [digest_of(sample) for sample in planned.samples]
    sampling = {name: value for name, value in vars(request.sampling).items() if name != "fps"}
    told = told_by(planned.pipeline.path)
    settings = RunSettings(
        prompts=[PromptEntry(index=it.index, sha256=it.sha256, seed=it.seed, split=it.split) for it in planned.prompts],
        total_prompts=len(planned.samples),
        prompts_sha256=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        parts=None if len(planned.prompts) == len(planned.samples) else [str(request.part)],
        tokens=planned.tokens,
        **sampling,
        flow_shift=cast(float | None, told.get("flow_shift")),
        boundary_ratio=cast(float | None, told.get("boundary_ratio")),
        buckets=BUCKETS,
        dtype=str(planned.pipeline.dtype).removeprefix("torch."),
        device=torch.device(planned.pipeline.device).type,
        reduction=reduction,
        torch=torch.__version__,
        diffusers=version("diffusers"),
    )
    return stats_header(f"vq-calib {version('vq-calib')}", planned.source, settings.model_dump())


def describe(output: Location, *, resumed_prompts: int = 0, step_seconds: float | None = None) -> Collected:
    """What the finished artifact `output` holds."""
    stats = open_stats(output)
    settings = RunSettings.model_validate(stats.artifact.manifest.settings)
    components = stats.artifact.manifest.components
    return Collected(
        output,
        size_bytes=size_of(stats.artifact.path),
        prompts=len(settings.prompts),
        resumed_prompts=resumed_prompts,
        tokens={name: stats.group(name, stats.groups(name)[0]).tokens for name in components},
        sampled={name: {split: stats.sampled(name, split) for split in SPLITS} for name in components},
        step_seconds=step_seconds,
    )
