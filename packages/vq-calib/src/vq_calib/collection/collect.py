"""Drive the real pipeline over prompts and write the statistics of what its transformers' linears read."""

import hashlib
from dataclasses import dataclass
from importlib.metadata import version

import torch

from vq_calib.collection.run import PromptsRun
from vq_calib.collection.totals import Totals
from vq_calib.observing.reduction import reduction_for
from vq_calib.planning.calib_prompts import digest_of
from vq_calib.planning.run_plan import CollectRequest, RunPlan, plan_run
from vq_calib.planning.settings import RunSettings, prompt_entries, sampling_fields
from vq_core.artifacts.stats import SPLITS, open_stats, stats_header
from vq_core.errors import VqError
from vq_core.files.folder_content import size_of
from vq_core.remote.location import Location
from vq_core.remote.transfer import exists
from vq_core.sampling.schedule import BUCKETS
from vq_core.store.writer import Header, create_artifact


@dataclass(frozen=True)
class Collected:
    """What a run of `collect` or `merge` wrote.

    Attributes:
        output: the artifact.
        size_bytes: its size.
        prompts: how many it sums over.
        resumed_prompts: how many of them an earlier, interrupted run had finished.
        tokens: by component, the tokens that one linear of self-attention has read.
        sampled: by component and split, the rows kept of every input that reads the video.
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

    def to_json(self) -> dict[str, object]:
        """The same for machines."""
        return vars(self) | {"output": str(self.output)}


def collect(request: CollectRequest, output: Location, *, resume: bool = False) -> Collected:
    """Sample every prompt (prompt i with seed `sampling.seed` + i) and write the statistics to `output`.

    After every prompt the sums are on disk: with `resume`, a killed run goes on from there to the same bits.

    Raises:
        VqError: model, prompts, settings or device do not fit; `output` exists; a linear reads NaN or Inf; a
            transformer is never called.
    """
    planned = plan_run(request)
    reduction = reduction_for(planned.pipeline.device)
    header = header_of(request, planned, reduction.name)
    run = PromptsRun(
        planned.pipeline,
        planned.topologies,
        request.sampling,
        planned.prompts,
        planned.calls,
        planned.tables,
        reduction,
    )
    with create_artifact(output, header, resume=resume) as writer:
        totals = Totals(writer.path("."), planned.topologies, planned.tables)
        resumed = len(planned.prompts) if totals.complete else totals.prompts
        if not totals.complete:
            run.sample(planned.samples, totals)
            totals.finish()
    return describe(output, resumed_prompts=resumed, step_seconds=run.step_seconds)


def finished_before(request: CollectRequest, output: Location) -> Collected | None:
    """What `output` holds, if an earlier run of this very request has finished it; None if there is nothing.

    Raises:
        VqError: it was collected otherwise.
    """
    if not exists(output):
        return None
    planned = plan_run(request)
    header = header_of(request, planned, reduction_for(planned.pipeline.device).name)
    manifest = open_stats(output).artifact.manifest
    same_model = {name: entry.fingerprint for name, entry in manifest.components.items()} == {
        name: entry.fingerprint for name, entry in header.components.items()
    }
    if not same_model or (manifest.tool, manifest.settings) != (header.tool, header.settings):
        raise VqError(f"{output} was collected otherwise than is asked for now: remove it, or run the same command.")
    return describe(output, resumed_prompts=len(planned.prompts))


def header_of(request: CollectRequest, planned: RunPlan, reduction: str) -> Header:
    """The header of the statistics that a run writes."""
    digests = [digest_of(sample) for sample in planned.samples]
    settings = RunSettings(
        prompts=prompt_entries(planned.prompts),
        total_prompts=len(planned.samples),
        prompts_sha256=hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        parts=None if len(planned.prompts) == len(planned.samples) else [str(request.part)],
        tokens=planned.tokens,
        **sampling_fields(request.sampling),
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
