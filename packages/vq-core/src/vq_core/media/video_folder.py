"""The videos of a folder: where a name has a lossless one and a lossy one, the lossless."""

from pathlib import Path

from vq_core.errors import VqError

LOSSY, LOSSLESS = ".mp4", ".mkv"


def videos_in(folder: Path) -> dict[str, Path]:
    """The videos of `folder` by name without suffix, sorted; all lossless or all lossy.

    Raises:
        VqError: there is no such folder, or no video, or some are lossless and others have only a lossy version.
    """
    if not folder.is_dir():
        raise VqError(f"{folder} is not a folder: give one with {LOSSLESS} or {LOSSY} videos.")
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    lossy, lossless = (
        {path.stem: path for path in visible if path.suffix.lower() == suffix} for suffix in (LOSSY, LOSSLESS)
    )
    if lossless and (lacking := sorted(lossy.keys() - lossless.keys())):
        raise VqError(
            f"{folder / lacking[0]}{LOSSLESS} is missing, and others are there: give lossless videos, or {LOSSY} alone."
        )
    if videos := lossless or lossy:
        return dict(sorted(videos.items()))
    raise VqError(
        f"{folder} holds no {LOSSLESS} or {LOSSY} video: give the folder of one variant, such as videos/full."
    )
