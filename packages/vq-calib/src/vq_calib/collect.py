"""Drive the real pipeline over prompts and write the statistics of what its transformers' linears read."""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from statistics import median

import torch

from vq_calib.hooks import Observer
from vq_calib.reduction import Reduce, reduction_for
from vq_calib.totals import Totals
from vq_core.artifacts.stats import BUCKETS, open_stats, stats_header
from vq_core.errors import VqError
from vq_core.pipeline import Conditions, Sampling, VideoPipeline
from vq_core.progress import Advance, progress
from vq_core.prompts import Sample, read_samples
from vq_core.source import Source, open_source
from vq_core.store import create_artifact


@dataclass(frozen=True)
class Collected:
    """What a run of `collect` did.

    Attributes:
        output: the artifact.
        size_bytes: its size.
        prompts: how many it sums over.
        resumed_prompts: how many of them an earlier, interrupted run had finished.
        tokens: by component, the tokens that one linear of self-attention has read.
        step_seconds: median time of a sampling step, statistics included; None where no two steps were run.
    """

    output: Path
    size_bytes: int
    prompts: int
    resumed_prompts: int
    tokens: dict[str, int]
    step_seconds: float | None

    def rows(self) -> dict[str, str]:
        """The lines of the summary."""
        resumed = f" ({self.resumed_prompts} of them before)" if self.resumed_prompts else ""
        rows = {"prompts": f"{self.prompts}{resumed}"}
        rows |= {f"tokens per linear, {name}": f"{count:,}" for name, count in self.tokens.items()}
        if self.step_seconds is not None:
            rows["per step"] = f"{self.step_seconds:.2f} s"
        return rows | {"output": str(self.output), "size": f"{self.size_bytes / 2**20:.1f} MiB"}

    def to_json(self) -> dict[str, object]:
        """The same for machines."""
        return vars(self) | {"output": str(self.output)}


def collect(
    model: str, prompts: Path, output: Path, sampling: Sampling, *, device: str | None = None, resume: bool = False
) -> Collected:
    """Sample every prompt (prompt i with seed `sampling.seed` + i) and write the statistics to `output`.

    After every prompt the sums are on disk: with `resume`, a killed run goes on from there to the same bits.

    Raises:
        VqError: model, prompts, settings or device do not fit; `output` exists; a linear reads NaN or Inf; a
            transformer was never called.
    """
    source = open_source(model)
    pipeline = VideoPipeline(model, device)
    pipeline.check(sampling)
    samples = read_samples(prompts, pipeline.needs_image)
    reduction, reduce = reduction_for(pipeline.device)
    header = stats_header(
        f"vq-calib {version('vq-calib')}",
        source,
        {
            "prompts": len(samples),
            "prompts_sha256": _digest(samples),
            **{name: value for name, value in vars(sampling).items() if name != "fps"},
            "buckets": BUCKETS,
            "dtype": str(pipeline.dtype).removeprefix("torch."),
            "device": torch.device(pipeline.device).type,
            "reduction": reduction,
            "torch": torch.__version__,
            "diffusers": version("diffusers"),
        },
    )
    with create_artifact(output, header, resume=resume) as writer:
        totals = Totals(writer.path("."), {name: entry.topology for name, entry in source.components.items()})
        resumed = len(samples) if totals.complete else totals.prompts
        run = _Run(source, pipeline, sampling, reduce, totals)
        if not totals.complete:
            run.sample(samples)
            totals.finish()
    stats = open_stats(output)
    return Collected(
        output,
        size_bytes=sum(path.stat().st_size for path in output.rglob("*") if path.is_file()),
        prompts=len(samples),
        resumed_prompts=resumed,
        tokens={name: stats.group(name, stats.groups(name)[0]).tokens for name in source.components},
        step_seconds=run.step_seconds,
    )


class _Run:
    """The prompts of one `collect`, one after another."""

    def __init__(
        self, source: Source, pipeline: VideoPipeline, sampling: Sampling, reduce: Reduce, totals: Totals
    ) -> None:
        self._source = source
        self._pipeline = pipeline
        self._sampling = sampling
        self._reduce = reduce
        self._totals = totals
        self._step_seconds: list[float] = []

    @property
    def step_seconds(self) -> float | None:
        """Median time of a step but the first of each prompt; None before there is one."""
        return median(self._step_seconds) if self._step_seconds else None

    def sample(self, samples: list[Sample]) -> None:
        """Sample the prompts that are not in the totals yet."""
        first = self._totals.prompts
        left = samples[first:]
        if not left:
            return
        conditions = self._pipeline.encode(left, self._sampling)
        with progress("calibrate", len(left) * self._sampling.steps, "step") as advance:
            for index, condition in enumerate(conditions, first):
                self._sample_one(index, condition, advance)
                self._totals.end_prompt()

    def _sample_one(self, index: int, conditions: Conditions, advance: Advance) -> None:
        steps: list[float] = []
        with self._observed(index) as observers:

            def end_step() -> None:
                for observer in observers.values():
                    observer.check_finite()
                steps.append(time.monotonic())
                advance()

            self._pipeline.denoise(conditions, self._sampling, self._sampling.seed + index, end_step)
            for observer in observers.values():
                observer.flush()
        self._step_seconds += [after - before for before, after in pairwise(steps)]
        for component, observer in observers.items():
            if not observer.calls:
                raise VqError(
                    f"{component} of {self._source.name} was never called: "
                    f"{self._sampling.steps} steps skip its noise levels, so raise --steps."
                )

    @contextmanager
    def _observed(self, prompt: int) -> Iterator[dict[str, Observer]]:
        """Watch every transformer within the block; its observers by component."""
        with ExitStack() as stack:
            observers = {}
            for component, transformer in self._pipeline.transformers.items():
                observers[component] = Observer(
                    f"{component}, prompt {prompt},",
                    self._source.components[component].topology.groups,
                    guided=self._sampling.guidance_scale > 1,
                    reduce=self._reduce,
                    flush=partial(self._totals.add_bucket, component),
                )
                stack.enter_context(observers[component].attached(transformer))
            yield observers


def _digest(samples: list[Sample]) -> str:
    """SHA-256 over prompts and image files."""
    entries = [
        [
            sample.prompt,
            sample.negative_prompt,
            sample.image and hashlib.sha256(sample.image.read_bytes()).hexdigest(),
        ]
        for sample in samples
    ]
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
