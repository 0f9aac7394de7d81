"""VMAF (Netflix, model vmaf_v0.6.1), 0 to 100, by the filter libvmaf of imageio-ffmpeg's ffmpeg.

It measures luma alone, in BT.709; its model was trained on 1080p seen from three screen heights away. Equal videos have
about 97 to 100, so no figure is infinite. Figures are weighted by the motion of the reference.
"""

import json
import subprocess
from functools import partial
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from vq_core.errors import VqError
from vq_eval.metrics import Clip, Per, too_small

MIN_SIDE = 32  # its smallest scale of a smaller frame would be empty

LABEL = "VMAF"
ORDER = 50
UNIT = ""
DIGITS = 1
HIGHER_IS_BETTER = True
COMPARES = True
PER: Per = "frame"
MEANING = "Netflix's perceptual quality of luma, model vmaf_v0.6.1, mean over frames; 100 at best"

unsuited = partial(too_small, side=MIN_SIDE)
over_video = fmean  # as libvmaf pools

# One colour matrix for every kind of file, and one clock, because times differ where containers do.
SAME = "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p,settb=1/25,setpts=N"


def missing() -> str | None:
    """Why not: this ffmpeg was built without libvmaf."""
    listed = _ffmpeg("-hide_banner", "-filters")
    if " libvmaf " in listed.stdout:
        return None
    return "the ffmpeg of imageio-ffmpeg has no filter libvmaf: let IMAGEIO_FFMPEG_EXE name one that has"


def measure(reference: Clip, candidate: Clip) -> list[float]:
    """VMAF of each frame.

    Raises:
        VqError: ffmpeg failed, or did not measure every frame.
    """
    with TemporaryDirectory() as folder:
        log = Path(folder) / "vmaf.json"
        # Relative, because a path inside a filter would have to be escaped.
        vmaf = f"libvmaf=log_fmt=json:log_path={log.name}"
        graph = f"[0:v]{SAME}[candidate];[1:v]{SAME}[reference];[candidate][reference]{vmaf}"
        inputs = ("-i", str(candidate.path.resolve()), "-i", str(reference.path.resolve()))
        done = _ffmpeg("-nostdin", "-loglevel", "error", *inputs, "-lavfi", graph, "-f", "null", "-", folder=folder)
        if done.returncode:
            said = done.stderr.strip().rpartition("\n")[2]
            raise VqError(f"VMAF of {candidate.path} failed ({said}): leave it out of --metrics.")
        frames = json.loads(log.read_text(encoding="utf-8"))["frames"]
    if len(frames) != len(candidate.frames):
        raise VqError(f"VMAF saw {len(frames)} of {len(candidate.frames)} frames of {candidate.path}: leave it out.")
    return [float(frame["metrics"]["vmaf"]) for frame in frames]


def _ffmpeg(*arguments: str, folder: str | None = None) -> subprocess.CompletedProcess[str]:
    from imageio_ffmpeg import get_ffmpeg_exe

    return subprocess.run([get_ffmpeg_exe(), *arguments], capture_output=True, text=True, check=False, cwd=folder)
