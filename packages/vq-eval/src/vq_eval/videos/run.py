"""The videos of one `fake-quant`: each variant made in turn, and what is the same for all candidates shared."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from vq_core.artifacts.videos import VideosWriter, render_video
from vq_core.model.source import Source
from vq_core.recipes.recipe import Variant
from vq_core.runtime.progress import Advance
from vq_core.sampling.attention import AttentionKernel
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from vq_eval.videos.reference_cache import Identity, ReferenceCache
from vq_eval.videos.reference_identity import identity_of_run, identity_of_video

SHARED: tuple[Variant, ...] = ("full", "floor")
"""The variants that are the model itself, whatever the candidate."""

Apply = Callable[[Variant, Mapping[str, nn.Module], str], None]


class VideosRun:
    """What the videos of one run have in common.

    `apply` turns the transformers, in full precision or a variant before it, into a variant; `floor` are the attention
    kernels of the variant `floor`.
    """

    def __init__(
        self,
        pipeline: VideoPipeline,
        variants: Sequence[Variant],
        apply: Apply,
        samples: Sequence[Sample],
        sampling: Sampling,
        videos: VideosWriter,
        floor: tuple[AttentionKernel, ...],
    ) -> None:
        self._pipeline = pipeline
        self._apply = apply
        self._samples = samples
        self._sampling = sampling
        self._videos = videos
        self._kernels: dict[Variant, tuple[AttentionKernel, ...]] = {"floor": floor}
        self._pending: dict[Variant, list[int]] = {variant: videos.pending(variant) for variant in variants}
        self._cache: ReferenceCache | None = None
        self._identities: dict[Variant, Identity] = {}

    def share(self, cache: ReferenceCache, source: Source) -> None:
        """Take from `cache` what it has of the model itself, and put there what is made of it."""
        self._cache = cache
        for variant in (variant for variant in SHARED if self._pending.get(variant)):
            kernels = self._kernels.get(variant, ())
            self._identities[variant] = identity_of_run(source, self._pipeline, self._sampling, kernels)
            self._pending[variant] = [
                index
                for index in self._pending[variant]
                if not cache.take(self._identity(variant, index), self._videos.files(variant, index))
            ]

    def left(self) -> int:
        """How many videos are still to be made."""
        return sum(map(len, self._pending.values()))

    def make(self, advance: Advance) -> None:
        """Make them, in the order of the variants."""
        prompts = sorted({index for indices in self._pending.values() for index in indices})
        encoded = self._pipeline.encode([self._samples[index] for index in prompts], self._sampling)
        conditions = dict(zip(prompts, encoded, strict=True))
        for variant, indices in self._pending.items():
            if indices:
                self._apply(variant, self._pipeline.transformers, self._pipeline.device)
            for index in indices:
                with self._shared(variant, index) as there:
                    if there:
                        for _ in range(self._sampling.steps):
                            advance()
                    else:
                        self._film(variant, index, conditions[index], advance)

    def _film(self, variant: Variant, index: int, conditions: Conditions, advance: Advance) -> None:
        kernels = self._kernels.get(variant, ())
        frames, record = render_video(self._pipeline, conditions, self._sampling, index, advance, kernels)
        self._videos.files(variant, index).write(frames, self._sampling.fps, record)

    @contextmanager
    def _shared(self, variant: Variant, index: int) -> Iterator[bool]:
        """Whether another run has made this video by now; if not, it is kept for others when the block ends."""
        if self._cache is None or variant not in SHARED:
            yield False
            return
        identity, files = self._identity(variant, index), self._videos.files(variant, index)
        with self._cache.alone(identity):
            there = self._cache.take(identity, files)
            yield there
            if not there:
                self._cache.put(identity, files)

    def _identity(self, variant: Variant, index: int) -> Identity:
        return identity_of_video(self._identities[variant], self._samples[index], self._sampling.seed + index)
