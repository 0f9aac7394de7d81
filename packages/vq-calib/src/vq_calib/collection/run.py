"""The prompts of one `collect`, one after another through the real pipeline, watched by hooks."""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import pairwise
from statistics import median

from vq_calib.collection.totals import Totals
from vq_calib.observing.hooks import Observer
from vq_calib.observing.reduction import Reduction
from vq_calib.planning.calib_prompts import CalibPrompt
from vq_calib.planning.token_plan import Tables, script_of
from vq_core.runtime.progress import Advance, progress
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.schedule import Call
from vq_core.sampling.settings import Sampling
from vq_core.topology import Topology


class PromptsRun:
    """What `collect` samples: `prompts`, by the `calls` and sampled tokens (`tables`) of each component."""

    def __init__(
        self,
        pipeline: VideoPipeline,
        topologies: Mapping[str, Topology],
        sampling: Sampling,
        prompts: Sequence[CalibPrompt],
        calls: Mapping[str, Sequence[Call]],
        tables: Mapping[str, Tables] | None,
        reduction: Reduction,
    ) -> None:
        self._pipeline = pipeline
        self._topologies = topologies
        self._sampling = sampling
        self._prompts = prompts
        self._calls = calls
        self._tables = tables
        self._reduction = reduction
        self._step_seconds: list[float] = []

    @property
    def step_seconds(self) -> float | None:
        """Median time of a step but the first of each prompt; None before there is one."""
        return median(self._step_seconds) if self._step_seconds else None

    def sample(self, samples: Sequence[Sample], totals: Totals) -> None:
        """Sample the prompts that are not in `totals` yet; `samples` are those of the whole run.

        Raises:
            VqError: a linear reads NaN or Inf.
        """
        left = self._prompts[totals.prompts :]
        if not left:
            return
        conditions = self._pipeline.encode([samples[prompt.index] for prompt in left], self._sampling)
        with progress("calibrate", len(left) * self._sampling.steps, "step") as advance:
            for prompt, condition in zip(left, conditions, strict=True):
                self._sample_one(prompt, condition, totals, advance)
                totals.end_prompt()

    def _sample_one(self, prompt: CalibPrompt, conditions: Conditions, totals: Totals, advance: Advance) -> None:
        steps: list[float] = []
        with self._observed(prompt, totals) as observers:

            def end_step() -> None:
                for observer in observers:
                    observer.end_step()
                steps.append(time.monotonic())
                advance()

            self._pipeline.denoise(conditions, self._sampling, prompt.seed, end_step)
            for observer in observers:
                observer.finish()
        self._step_seconds += [after - before for before, after in pairwise(steps)]

    @contextmanager
    def _observed(self, prompt: CalibPrompt, totals: Totals) -> Iterator[list[Observer]]:
        """Watch every transformer within the block."""
        with ExitStack() as stack:
            observers = []
            for component, transformer in self._pipeline.transformers.items():
                tables = None if self._tables is None else self._tables[component]
                observer = Observer(
                    f"{component}, prompt {prompt.index},",
                    self._topologies[component].groups,
                    script_of(prompt, self._calls[component], tables),
                    reduction=self._reduction,
                    flush=partial(totals.add_bucket, component),
                )
                stack.enter_context(observer.attached(transformer))
                observers.append(observer)
            yield observers
