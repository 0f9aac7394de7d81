"""The origin of videos: the manifest of their folder, and prompts that were given beside it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vq_core.artifacts.made_videos import MadeVideos, made_videos
from vq_core.errors import VqError
from vq_core.remote.location import Location
from vq_core.sampling.prompts import ModelInputs, Sample, read_samples
from vq_core.store.manifest import Manifest
from vq_eval.compare.compared_folders import ComparedFolder
from vq_eval.compare.schema import PromptInfo, Provenance

FIRST_FRAME_IF_ANY = ModelInputs(optional=("image",))
TEXTS = ("prompt", "negative_prompt")


@dataclass(frozen=True)
class Origin:
    """What the manifest around a folder says of its videos.

    Attributes:
        provenance: how they were made.
        seconds_per_video: None where the manifest does not say.
        num_frames: of each video; None where the manifest does not say.
    """

    provenance: Provenance
    seconds_per_video: float | None
    num_frames: int | None


def origin_of(folder: ComparedFolder) -> Origin | None:
    """The origin in the manifest of `folder`, or of the folder around it; None without a manifest of videos.

    Raises:
        VqError: see `made_videos`; a video that was made is missing.
    """
    made = made_videos(folder.entry.location)
    if made is None:
        return None
    made.require_all(folder.videos.values())
    return Origin(_provenance(made, folder.videos.values()), _seconds(made.manifest, made.variant), made.num_frames)


def _provenance(made: MadeVideos, videos: Iterable[Path]) -> Provenance:
    manifest = made.manifest
    settings = dict(manifest.settings)
    prompts: Any = settings.pop("prompts", [])
    return Provenance(
        path=str(made.artifact),
        digest=manifest.digest(),
        variant=made.variant,
        tool=manifest.tool,
        family=manifest.family,
        model=manifest.model,
        fingerprints={name: component.fingerprint for name, component in manifest.components.items()},
        settings=settings,
        prompts=tuple(map(_prompt_info, prompts)),
        parents=manifest.parents,
        altered=tuple(path.name for path in videos if made.is_altered(path)),
    )


def _prompt_info(entry: Mapping[str, Any]) -> PromptInfo:
    files = {key: value for key, value in entry.items() if key not in TEXTS and value is not None}
    return PromptInfo(prompt=entry["prompt"], negative_prompt=entry["negative_prompt"], files=files)


def _seconds(manifest: Manifest, variant: str) -> float | None:
    by_variant = manifest.measured.get("seconds_per_video")
    seconds = by_variant.get(variant) if isinstance(by_variant, dict) else None
    return float(seconds) if isinstance(seconds, int | float) else None


@dataclass(frozen=True)
class Asked:
    """What a video was made from; None where it is not known."""

    prompt: str | None = None
    negative_prompt: str | None = None
    seed: int | None = None
    image: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class AskedVideos:
    """What each of the videos 000, 001 … was made from, by the reference's manifest and by given prompts."""

    provenance: Provenance | None
    samples: tuple[Sample, ...] = ()

    def of(self, name: str) -> Asked:
        """What the video `name` was made from; unknown unless the name is a number."""
        if not re.fullmatch(r"\d{3,}", name):
            return Asked()
        index = int(name)
        told = self.provenance.prompts[index : index + 1] if self.provenance is not None else ()
        sample = self.samples[index] if index < len(self.samples) else None
        texts = told[0] if told else sample
        image = sample.opened().get("image") if sample is not None else None
        return Asked(
            prompt=texts.prompt if texts is not None else None,
            negative_prompt=texts.negative_prompt if texts is not None else None,
            seed=self._seed(index),
            image=np.asarray(image[0].image()) if image else None,
        )

    def _seed(self, index: int) -> int | None:
        seed = self.provenance.settings.get("seed") if self.provenance is not None else None
        return seed + index if isinstance(seed, int) else None


def asked_videos(provenance: Provenance | None, prompts: Location | None) -> AskedVideos:
    """What the reference was made from.

    Raises:
        VqError: the prompts cannot be read, or are not the prompts in the reference's manifest.
    """
    samples = tuple(read_samples(prompts, FIRST_FRAME_IF_ANY)) if prompts is not None else ()
    if provenance is not None and samples:
        wrong = _first_difference(provenance.prompts, samples)
        if wrong is not None:
            raise VqError(f"{prompts} is not what {provenance.path} was made from, {wrong}: give those prompts.")
    return AskedVideos(provenance, samples)


def _first_difference(known: Sequence[PromptInfo], given: Sequence[Sample]) -> str | None:
    if len(known) != len(given):
        return f"it has {len(given)} prompts and not {len(known)}"
    for index, (info, sample) in enumerate(zip(known, given, strict=True)):
        if (info.prompt, info.negative_prompt) != (sample.prompt, sample.negative_prompt):
            return f"entry {index} has other texts"
        # A model without an image input has not read the images.
        if "image" in info.files and [info.files["image"]] != sample.digests().get("image"):
            return f"entry {index} has another image"
    return None
