"""The videos of one `fake-quant`: each variant in turn, with the videos that all candidates share from the cache."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from vq_core.artifacts.videos import VideosWriter, render_video
from vq_core.recipes.recipe import Variant
from vq_core.runtime.progress import Advance
from vq_core.sampling.attention import AttentionKernel
from vq_eval.videos.model_run import ModelRun
from vq_eval.videos.reference_cache import Identity, ReferenceCache
from vq_eval.videos.reference_identity import identity_of_run, identity_of_video

SHARED: tuple[Variant, ...] = ("full", "floor")
"""The variants that depend on the model alone, not on the candidate."""

Apply = Callable[[Variant, Mapping[str, nn.Module], str], None]


class VideosRun:
    """Makes the videos of one run.

    `apply` turns the transformers, in full precision or an earlier variant, into a variant; `floor` holds the attention
    kernels of the variant `floor`.
    """

    def __init__(
        self,
        run: ModelRun,
        variants: Sequence[Variant],
        apply: Apply,
        videos: VideosWriter,
        floor: tuple[AttentionKernel, ...],
    ) -> None:
        self._run = run
        self._apply = apply
        self._videos = videos
        self._kernels: dict[Variant, tuple[AttentionKernel, ...]] = {"floor": floor}
        self._pending: dict[Variant, list[int]] = {variant: videos.pending(variant) for variant in variants}
        self._cache: ReferenceCache | None = None
        self._identities: dict[Variant, Identity] = {}

    def share(self, cache: ReferenceCache) -> None:
        """Take the model's own videos from `cache` where it has them, and put there those that are made."""
        self._cache = cache
        for variant in (variant for variant in SHARED if self._pending.get(variant)):
            self._identities[variant] = identity_of_run(self._run, self._kernels.get(variant, ()))
            self._pending[variant] = [
                index for index in self._pending[variant] if not self._take(cache, variant, index)
            ]

    def left(self) -> int:
        """How many videos are still to be made."""
        return sum(map(len, self._pending.values()))

    def make(self, advance: Advance) -> None:
        """Make them, in the order of the variants."""
        pipeline, sampling = self._run.pipeline, self._run.sampling
        conditions = self._run.encode(pipeline, sorted({index for left in self._pending.values() for index in left}))
        for variant, indices in self._pending.items():
            if indices:
                self._apply(variant, pipeline.transformers, pipeline.device)
            kernels = self._kernels.get(variant, ())
            for index in indices:
                with self._shared(variant, index) as there:
                    if there:
                        for _ in range(sampling.steps):
                            advance()
                    else:
                        frames, record = render_video(pipeline, conditions[index], sampling, index, advance, kernels)
                        self._videos.draft(variant, index).write(frames, sampling.fps, record)
                        self._videos.adopt(variant, index)

    @contextmanager
    def _shared(self, variant: Variant, index: int) -> Iterator[bool]:
        """Whether another run has made this video meanwhile; if not, it is put into the cache when the block ends."""
        if self._cache is None or variant not in SHARED:
            yield False
            return
        identity = self._identity(variant, index)
        with self._cache.alone(identity):
            there = self._take(self._cache, variant, index)
            yield there
            if not there:
                self._cache.put(identity, self._videos.files(variant, index))

    def _take(self, cache: ReferenceCache, variant: Variant, index: int) -> bool:
        """Whether `cache` had this video, which is one of the artifact's then."""
        there = cache.take(self._identity(variant, index), self._videos.draft(variant, index))
        if there:
            self._videos.adopt(variant, index)
        return there

    def _identity(self, variant: Variant, index: int) -> Identity:
        return identity_of_video(self._identities[variant], self._run.samples[index], self._run.seed(index))
