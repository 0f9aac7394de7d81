"""`videos`: `VARIANT/000.mp4` to watch, `000.mkv` (lossless) to measure, and `000.json`, the record of each video.

Simulation and engines write videos through this module, with one process or with several that share the folder. Prompt
i has seed `sampling.seed` + i.
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
from vq_core.media.video_folder import LOSSLESS, LOSSY
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


class VideoRecord(DiskRecord):
    """How a video was made.

    Attributes:
        seconds: time to sample and decode it.
        attention: the attention kernels that ran.
        cached: whether it was taken from the cache of an earlier run.
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
    """Figures of the videos of one variant.

    Attributes:
        seconds: median time of one video; the first of a process includes one-time work.
        attention: the attention kernels that ran.
        cached: number of videos that were taken from the cache.
    """

    seconds: float
    attention: tuple[AttentionKernel, ...]
    cached: int

    @classmethod
    def of(cls, records: Sequence[VideoRecord]) -> "Summary":
        """The summary of all `records` of a variant."""
        return cls(
            median(record.seconds for record in records),
            tuple(sorted({kernel for record in records for kernel in record.attention})),
            sum(record.cached for record in records),
        )

    def to_json(self) -> dict[str, JsonValue]:
        """The summary as JSON."""
        return {"seconds": self.seconds, "attention": list(self.attention), "cached": self.cached}

    def text(self) -> str:
        """The summary in one line."""
        cached = f", {self.cached} from the cache" if self.cached else ""
        return f"{self.seconds:.1f} s each, {' and '.join(self.attention) or 'unknown'} attention{cached}"


class VideosWriter:
    """Writes the videos of this process; made by `create_videos`.

    Attributes:
        resumed: number of videos, over all variants and processes, that an interrupted run had finished.
        noted: summary of every variant; filled in the process that completes the artifact, at its end.
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
        """The prompts of this process whose videos do not exist yet."""
        mine = range(self._process.rank, self._prompts, self._process.world_size)
        return [index for index in mine if not self._has(variant, index)]

    def _has(self, variant: str, index: int) -> bool:
        return all(map(self._writer.has, _files(variant, index)))

    def note_summaries(self) -> None:
        """Add the summary of every variant to the manifest; requires that all videos exist."""
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

    Of N processes, each makes every N-th prompt and writes into the same folder, which the first process creates and
    completes. A run may be resumed with another number of processes.

    Raises:
        VqError: see `vq_core.store.writer.create_artifact`; a process does not see the folder of the first one; another
            process failed.
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
                raise VqError(f"{folder}, which the first process created, is not here: use a disk that all share.")
            writer = first or ArtifactWriter(folder, header, rank=process.rank)
            videos = VideosWriter(writer, variants, prompts, process)
            yield videos
            wait_for_all()
            if process.is_first:
                videos.note_summaries()


@contextmanager
def _kept() -> Iterator[None]:
    """Keep the folder after an error, because other processes still write into it."""
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
    """The video of prompt `index`, uint8 RGB [frames, height, width, 3], and its record.

    Attention runs `kernels`, see `vq_core.sampling.attention.attention_of`.

    Raises:
        VqError: the settings do not fit the model, or something computed is NaN or infinite.
    """
    transformers = pipeline.transformers  # loaded before the clock starts
    start = time.monotonic()
    with attention_of(transformers.values(), kernels) as used:
        frames = pipeline.sample(conditions, sampling, sampling.seeds(index + 1)[index], advance)
    return frames, VideoRecord(seconds=time.monotonic() - start, attention=sorted(used))


def settings_of(samples: Sequence[Sample], sampling: Sampling, pipeline: VideoPipeline) -> dict[str, JsonValue]:
    """Sampling settings as the manifest of videos states them."""
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
    return f"{stem}{LOSSY}", f"{stem}.json", f"{stem}{LOSSLESS}"
