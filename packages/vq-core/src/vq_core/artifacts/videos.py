"""`videos`: `VARIANT/000.mp4` to look at, `000.mkv` (lossless) to measure, and `000.json`, how it was made.

Whoever makes them, in simulation or with an engine, writes them here: alone, or with several processes that have the
folder in common. Prompt i has seed `sampling.seed` + i.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import JsonValue

from vq_core.errors import Unfinished, VqError
from vq_core.files.disk_record import DiskRecord
from vq_core.files.tensor_file import write_bytes
from vq_core.media.video import write_video
from vq_core.remote.location import Location
from vq_core.remote.transfer import staging_path
from vq_core.runtime.distributed import joined, wait_for_all
from vq_core.runtime.process import Process
from vq_core.runtime.progress import Advance
from vq_core.sampling.attention import AttentionKernel, attention_of
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from vq_core.store.resumable_folder import partial_folder
from vq_core.store.writer import ArtifactWriter, Header, create_artifact

KIND = "videos"
FORMAT = 2
LOSSLESS = ".mkv"


class VideoRecord(DiskRecord):
    """How a video was made.

    Attributes:
        seconds: to sample and decode it, when it was made.
        attention: the kernels that its transformers' attention ran.
        cached: whether an earlier run made it, and it was taken from the cache.
    """

    seconds: float
    attention: list[AttentionKernel]
    cached: bool = False


@dataclass(frozen=True)
class VideoFiles:
    """The files of one video."""

    lossless: Path

    @property
    def to_look_at(self) -> Path:
        """The H.264 one."""
        return self.lossless.with_suffix(".mp4")

    @property
    def record(self) -> Path:
        """How it was made."""
        return self.lossless.with_suffix(".json")

    def write(self, frames: NDArray[np.uint8], fps: int, record: VideoRecord) -> None:
        """Write all of them; `frames`: uint8 RGB [frames, height, width, 3]."""
        write_video(self.to_look_at, frames, fps)
        self.write_record(record)
        write_video(self.lossless, frames, fps)

    def read_record(self) -> VideoRecord:
        """How it was made."""
        return VideoRecord.model_validate_json(self.record.read_text(encoding="utf-8"))

    def write_record(self, record: VideoRecord) -> None:
        """Write how it was made."""
        write_bytes(self.record, f"{record.model_dump_json()}\n".encode())


@dataclass(frozen=True)
class Summary:
    """What is known of the videos of one variant when all are there.

    Attributes:
        seconds: median time of one, in seconds; the first of a process includes what is done only once.
        attention: the kernels that ran.
        cached: how many were taken from the cache.
    """

    seconds: float
    attention: tuple[AttentionKernel, ...]
    cached: int

    @classmethod
    def of(cls, records: Sequence[VideoRecord]) -> "Summary":
        """Of all `records` of a variant."""
        return cls(
            median(record.seconds for record in records),
            tuple(sorted({kernel for record in records for kernel in record.attention})),
            sum(record.cached for record in records),
        )

    def to_json(self) -> dict[str, JsonValue]:
        """For machines."""
        return {"seconds": self.seconds, "attention": list(self.attention), "cached": self.cached}

    def text(self) -> str:
        """One line."""
        cached = f", {self.cached} from the cache" if self.cached else ""
        return f"{self.seconds:.1f} s each, {' and '.join(self.attention) or 'unknown'} attention{cached}"


class VideosWriter:
    """Writes the videos of this process; made by `create_videos`.

    Attributes:
        resumed: how many videos, of all variants and processes, an earlier, interrupted run had finished.
        noted: what is known of every variant, in the process that completes the artifact, once that is done.
    """

    def __init__(self, writer: ArtifactWriter, variants: Sequence[str], prompts: int, process: Process) -> None:
        self._writer = writer
        self._variants = variants
        self._prompts = prompts
        self._process = process
        self.noted: dict[str, Summary] = {}
        self.resumed = sum(self._has(variant, index) for variant in variants for index in range(prompts))

    def files(self, variant: str, index: int) -> VideoFiles:
        """Where the finished video of prompt `index` lies while the artifact is made."""
        return VideoFiles(self._writer.path(_files(variant, index)[-1]))

    def draft(self, variant: str, index: int) -> VideoFiles:
        """Where to write the video of prompt `index`; it is one of the artifact's only when it is adopted."""
        return VideoFiles(self._writer.draft(_files(variant, index)[-1]))

    def adopt(self, variant: str, index: int) -> None:
        """Make what lies in `draft` the video of prompt `index`."""
        for file in _files(variant, index):
            self._writer.adopt(file)

    def pending(self, variant: str) -> list[int]:
        """The prompts whose videos are this process' and not there yet."""
        mine = range(self._process.rank, self._prompts, self._process.world_size)
        return [index for index in mine if not self._has(variant, index)]

    def _has(self, variant: str, index: int) -> bool:
        return all(map(self._writer.has, _files(variant, index)))

    def note_summaries(self) -> None:
        """Let the manifest say what is known of every variant; all videos are there."""
        for variant in self._variants:
            records = [self.files(variant, index).read_record() for index in range(self._prompts)]
            self.noted[variant] = Summary.of(records)
        noted = self.noted.items()
        self._writer.note_measured(
            {
                "seconds_per_video": {variant: summary.seconds for variant, summary in noted},
                "attention": {variant: list(summary.attention) for variant, summary in noted},
                "cached": {variant: summary.cached for variant, summary in noted},
            }
        )


@contextmanager
def create_videos(
    output: Location, header: Header, variants: Sequence[str], prompts: int, *, process: Process, resume: bool
) -> Iterator[VideosWriter]:
    """Build the artifact of `prompts` videos of each variant; it is complete when the block ends without an error.

    With several processes, each has every N-th prompt and writes into the same folder, which the first one
    begins and completes. How many there are may change from a run to the one that resumes it.

    Raises:
        VqError: see `vq_core.store.writer.create_artifact`; a process does not see the folder of the first; one has
            failed.
    """
    if process.is_alone:
        with create_artifact(output, header, resume=resume) as writer:
            videos = VideosWriter(writer, variants, prompts, process)
            yield videos
            videos.note_summaries()
        return
    with ExitStack() as stack:
        stack.enter_context(joined())
        folder = partial_folder(staging_path(output))
        first = stack.enter_context(create_artifact(output, header, resume=resume)) if process.is_first else None
        with _kept():
            wait_for_all()
            if not folder.is_dir():
                raise VqError(f"{folder}, which the first process has made, is not here: use a disk that all share.")
            writer = first or ArtifactWriter(folder, header, rank=process.rank)
            videos = VideosWriter(writer, variants, prompts, process)
            yield videos
            wait_for_all()
            if process.is_first:
                videos.note_summaries()


@contextmanager
def _kept() -> Iterator[None]:
    """Let a mistake leave what there is: other processes are writing there."""
    try:
        yield
    except VqError as error:
        raise Unfinished(str(error)) from error


def render_video(
    pipeline: VideoPipeline,
    conditions: Conditions,
    sampling: Sampling,
    index: int,
    advance: Advance,
    kernels: Sequence[AttentionKernel] = (),
) -> tuple[NDArray[np.uint8], VideoRecord]:
    """The video of prompt `index`, uint8 RGB [frames, height, width, 3], and how it was made.

    Attention runs `kernels`, see `vq_core.sampling.attention.attention_of`.

    Raises:
        VqError: the settings do not fit the model.
    """
    transformers = pipeline.transformers  # loaded before the clock starts
    start = time.monotonic()
    with attention_of(transformers.values(), kernels) as used:
        frames = pipeline.sample(conditions, sampling, sampling.seed + index, advance)
    return frames, VideoRecord(seconds=time.monotonic() - start, attention=sorted(used))


def settings_of(samples: Sequence[Sample], sampling: Sampling, pipeline: VideoPipeline) -> dict[str, JsonValue]:
    """What the manifest of any videos says of how they were sampled."""
    return {
        **vars(sampling),
        "prompts": [describe(sample) for sample in samples],
        "dtype": str(pipeline.dtype).removeprefix("torch."),
        "device": torch.device(pipeline.device).type,
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
    }


def describe(sample: Sample) -> dict[str, JsonValue]:
    """Texts, and SHA-256 of the files by key: of reference images a list; of a first frame null where there is none."""
    files: dict[str, Any] = {"image": None}
    for key, digests in sample.digests().items():
        files[key] = list(digests) if key == "reference_images" else digests[0]
    return {"prompt": sample.prompt, "negative_prompt": sample.negative_prompt, **files}


def _files(variant: str, index: int) -> tuple[str, str, str]:
    """The files of one video, the lossless one last."""
    stem = f"{variant}/{index:03d}"
    return f"{stem}.mp4", f"{stem}.json", f"{stem}{LOSSLESS}"
