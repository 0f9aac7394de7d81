"""What the manifest around a folder of videos says of them, for those who read videos again."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from vq_core.artifacts.videos import FORMAT, KIND
from vq_core.errors import VqError
from vq_core.files.json_file import read_json
from vq_core.files.tensor_file import sha256_of
from vq_core.media.video import FORMATS
from vq_core.media.video_folder import LOSSLESS, LOSSY
from vq_core.remote.location import Location
from vq_core.remote.transfer import exists, local_copy
from vq_core.store.manifest import FILE_NAME, Manifest, read_manifest, require_own_digest

REPAIR = "make or copy the videos again"


@dataclass(frozen=True)
class MadeVideos:
    """The artifact that a folder of videos belongs to.

    Attributes:
        artifact: its folder.
        variant: which folder of it the videos lie in; empty where they lie in the artifact itself.
        manifest: of the artifact.
    """

    artifact: Location
    variant: str
    manifest: Manifest

    @property
    def num_frames(self) -> int | None:
        """How many frames each video was made with; None where the manifest does not say."""
        count = self.manifest.settings.get("num_frames")
        return count if isinstance(count, int) else None

    def require_all(self, videos: Collection[Path]) -> None:
        """Refuse `videos` of this folder if one that was written is not among them, or only its lossy version.

        Raises:
            VqError: names it.
        """
        written = [file for file in map(PurePosixPath, self.manifest.files) if file.suffix in FORMATS]
        here = [file for file in written if str(file.parent) == (self.variant or ".")]
        found, lossy = {video.stem for video in videos}, {it.stem for it in videos if it.suffix.lower() == LOSSY}
        for file in sorted(here):
            if file.stem not in found or (file.suffix == LOSSLESS and file.stem in lossy):
                raise VqError(f"{self.artifact} holds no {file} any more, which was written to it: {REPAIR}.")

    def is_altered(self, video: Path) -> bool:
        """Whether the file `video` of this folder is not the one that was written."""
        entry = self.manifest.files.get(f"{self.variant}/{video.name}" if self.variant else video.name)
        return entry is None or entry.sha256 != sha256_of(video)


def made_videos(folder: Location) -> MadeVideos | None:
    """The artifact of the videos in `folder`, by the manifest there or around it; None for videos of other programs.

    Raises:
        VqError: a manifest is damaged, one of videos has another format, something else is in its place, or the videos
            have records of how they were made and no manifest.
    """
    if isinstance(folder, Path) and folder.name in ("", ".."):  # `.` has neither a name nor a parent
        folder = folder.resolve()
    for place, variant in ((folder, ""), (folder.parent, folder.name)):
        if not exists(place / FILE_NAME):
            continue
        path = local_copy(place, only=[FILE_NAME])
        content = read_json(path / FILE_NAME, damaged=REPAIR)
        if content.get("kind") == KIND:
            return MadeVideos(place, variant, read_manifest(path, KIND, FORMAT))
        if "digest" in content:  # of another kind, unless the kind itself is what was damaged
            require_own_digest(content, path / FILE_NAME)
        elif "kind" not in content and _have_records(folder):
            raise VqError(f"{path / FILE_NAME} is not the manifest of the videos in {folder}: {REPAIR}.")
    if _have_records(folder):
        raise VqError(
            f"The videos in {folder} lie there with how they were made (.json), but without the {FILE_NAME} of the "
            "folder around them: copy that one whole, or take the .json files away."
        )
    return None


def _have_records(folder: Location) -> bool:
    """Do the videos in `folder` lie there with how they were made, as only artifacts of videos have it?"""
    return isinstance(folder, Path) and any(it.with_suffix(".json").exists() for it in folder.glob("*.mkv"))


def require_unaltered(made: MadeVideos | None, video: Path) -> None:
    """Refuse the file `video` if it is not the one that its manifest names.

    Raises:
        VqError: it is another one.
    """
    if made is not None and made.is_altered(video):
        raise VqError(f"{video} is not the file that was written (its SHA-256 differs): {REPAIR}.")
