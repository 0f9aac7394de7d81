"""Video files, through the ffmpeg that imageio-ffmpeg ships: H.264 to look at, lossless FFV1 to measure."""

import errno
import os
import re
import signal
import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vq_core.errors import VqError
from vq_core.media.seal import is_broken, seal

# BT.709 is what players assume for H.264; ffmpeg alone would convert with BT.601 and leave the stream untagged.
H264 = (
    *("-vf", "scale=out_color_matrix=bt709:out_range=tv:flags=accurate_rnd+full_chroma_int"),
    *("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"),
    *("-c:v", "libx264", "-crf", "12", "-preset", "medium", "-movflags", "+faststart"),
)
FORMATS = (".mp4", ".mkv")
WHO_SAYS_IT = re.compile(r"^(\[[^\]]* @ 0x[0-9a-f]+\] )+")  # such as `[h264 @ 0x5578969cce80] `
# Bit-exact, because Matroska's identifiers are random otherwise: the same frames give the same file.
FFV1 = ("-c:v", "ffv1", "-level", "3", "-g", "1", "-pix_fmt", "bgr0", "-fflags", "+bitexact")


def write_video(path: Path, frames: NDArray[np.uint8], fps: int) -> None:
    """Write `frames`, uint8 RGB [frames, height, width, 3], as `.mp4` (H.264, CRF 12) or `.mkv` (lossless FFV1).

    The size is kept exactly: an odd one is stored as 4:4:4, because 4:2:0 halves both sides. A seal at the end lets
    `read_video` recognise damage. Written to a temporary sibling and renamed, so `path` is never half a video.

    Raises:
        VqError: `path` ends in neither `.mp4` nor `.mkv`.
        ValueError: `frames` is not a non-empty uint8 RGB video.
    """
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.size:
        raise ValueError(f"frames must be uint8 [frames, height, width, 3], got {frames.dtype} {list(frames.shape)}")
    _, height, width, _ = frames.shape
    match path.suffix.lower():
        case ".mp4":
            subsampling = "yuv444p" if height % 2 or width % 2 else "yuv420p"
            codec: tuple[str, ...] = (*H264, "-pix_fmt", subsampling)
        case ".mkv":
            codec = FFV1
        case _:
            raise VqError(f"{path} is not a video format written here: end it in {' or '.join(FORMATS)}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", str(fps), "-i", "pipe:0")
    # A dot begins the name of what is unfinished, so that a resumed run removes it; the end still names the format.
    draft = path.with_name(f".{path.name}")
    try:
        ffmpeg = _ffmpeg(*source, *codec, _file(draft), stdin=np.ascontiguousarray(frames).data)
        if ffmpeg.returncode:
            said = ffmpeg.stderr.decode(errors="replace").strip()
            if os.strerror(errno.ENOSPC) in said:  # as an OSError again, it is told like any other full disk
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            if ffmpeg.returncode == -signal.SIGXFSZ:  # which ended it without a word
                raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path))
            raise OSError(f"ffmpeg could not write {path}: {said}")
        seal(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_video(path: Path) -> NDArray[np.uint8]:
    """All frames of the video at `path`, uint8 RGB [frames, height, width, 3].

    Damage is refused as far as the file lets it be seen: by the seal of `write_video`, by the checksums of FFV1, and by
    what the decoder finds wrong.

    Raises:
        VqError: there is no such file, it is not a video, or it is damaged.
    """
    # Every PPM frame carries its size, and passthrough keeps ffmpeg from repeating or dropping frames.
    ppm = _decode(path, "-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "ppm", "-pix_fmt", "rgb24", "pipe:1")
    header = ppm[:64].split(b"\n", 3)[:3]
    if header[0] != b"P6":
        raise _undecodable(path, "it has no frames")
    width, height = map(int, header[1].split())
    header_bytes = sum(map(len, header)) + len(header)
    images = np.frombuffer(ppm, np.uint8).reshape(-1, header_bytes + height * width * 3)
    return images[:, header_bytes:].reshape(-1, height, width, 3)


def frames_per_second(path: Path) -> float:
    """At which speed the video at `path` is meant to be shown.

    Raises:
        VqError: see `read_video`.
    """
    # The header of this format says the rate as a fraction.
    stream = _decode(path, "-frames:v", "1", "-pix_fmt", "yuv420p", "-f", "yuv4mpegpipe", "pipe:1")
    rate = re.search(rb"^YUV4MPEG2 [^\n]*\bF(\d+):(\d+)", stream)
    if rate is None:
        raise _undecodable(path, "it has no frames")
    return int(rate[1]) / int(rate[2])


def _decode(path: Path, *output: str) -> bytes:
    """What ffmpeg makes of the video at `path`; whatever it complains of is an error."""
    if not path.is_file():
        raise VqError(f"The video {path} is missing: check the path.")
    if is_broken(path):
        raise _undecodable(path, "it was changed after it was written")
    # ffmpeg conceals most damage and ends with 0, so what it says counts too.
    ffmpeg = _ffmpeg("-xerror", "-err_detect", "explode", "-i", _file(path), *output)
    if ffmpeg.returncode or ffmpeg.stderr:
        said = WHO_SAYS_IT.sub("", ffmpeg.stderr.decode(errors="replace").strip()).partition("\n")[0]
        raise _undecodable(path, said or f"ffmpeg ended with {ffmpeg.returncode}")
    return ffmpeg.stdout


def _undecodable(path: Path, reason: str) -> VqError:
    return VqError(f"{path} is not a video that can be decoded ({reason}): write it again.")


def _file(path: Path) -> str:
    """`path` for ffmpeg, which takes `-x.mp4` for an option and `http:x.mp4` for an address."""
    return str(path.absolute())  # neither begins with a slash


def _ffmpeg(*arguments: str, stdin: memoryview | None = None) -> subprocess.CompletedProcess[bytes]:
    from imageio_ffmpeg import get_ffmpeg_exe

    command = [get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-y", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, check=False)
