import errno
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from vq_core.errors import VqError
from vq_core.media import video as video_module
from vq_core.media.seal import ANNOUNCED, SEAL_BYTES
from vq_core.media.video import frames_per_second, read_video, write_video


def noise(frames: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)


def drift(frames: int, height: int, width: int) -> NDArray[np.uint8]:
    """A smooth picture with a colour of its own in every corner, moving from frame to frame."""
    time, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    channels = [60 + 100 * x / width + 4 * time, 40 + 150 * y / height, 200 - 90 * x / width]
    return np.stack(channels, axis=-1).astype(np.uint8)


@settings(deadline=None, max_examples=8)
@given(st.integers(1, 6), st.integers(1, 40), st.integers(2, 40))
def test_matroska_gives_every_pixel_back(
    tmp_path_factory: pytest.TempPathFactory, frames: int, height: int, width: int
) -> None:
    path = tmp_path_factory.mktemp("video") / "noise.mkv"
    video = noise(frames, height, width)
    write_video(path, video, fps=16)
    assert np.array_equal(read_video(path), video)


@pytest.mark.parametrize(("frames", "height", "width"), [(1, 64, 48), (9, 48, 64), (5, 33, 51)])
def test_h264_keeps_size_frames_and_colours(tmp_path: Path, frames: int, height: int, width: int) -> None:
    video = drift(frames, height, width)
    write_video(tmp_path / "drift.mp4", video, fps=16)
    back = read_video(tmp_path / "drift.mp4")
    assert back.shape == video.shape
    assert back.dtype == np.uint8
    difference = back.astype(int) - video.astype(int)
    assert np.abs(difference).mean() < 2.5
    assert np.abs(difference.mean(axis=(0, 1, 2))).max() < 1.5  # a wrong colour matrix shifts whole channels


def test_stores_the_frame_rate(tmp_path: Path) -> None:
    write_video(tmp_path / "drift.mp4", drift(12, 32, 32), fps=24)
    frames, seconds = imageio_ffmpeg.count_frames_and_secs(str(tmp_path / "drift.mp4"))
    assert (frames, seconds) == (12, pytest.approx(0.5))


def test_h264_is_tagged_with_the_colours_it_was_made_with(tmp_path: Path) -> None:
    write_video(tmp_path / "drift.mp4", drift(2, 32, 32), fps=16)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", str(tmp_path / "drift.mp4")]
    description = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert "h264" in description
    assert "yuv420p(tv, bt709" in description


def test_reads_every_frame_of_an_uneven_rate_once(tmp_path: Path) -> None:
    video = noise(6, 16, 16)
    write_video(tmp_path / "even.mkv", video, fps=16)
    drop = ["-vf", "select=not(eq(n\\,2))", "-fps_mode", "vfr", "-c:v", "ffv1", str(tmp_path / "uneven.mkv")]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(tmp_path / "even.mkv"), *drop]
    subprocess.run(command, check=True)
    assert np.array_equal(read_video(tmp_path / "uneven.mkv"), video[[0, 1, 3, 4, 5]])


def test_takes_a_view_that_is_not_contiguous(tmp_path: Path) -> None:
    video = noise(4, 20, 24)[::2, ::-1, :, ::-1]
    write_video(tmp_path / "view.mkv", video, fps=16)
    assert np.array_equal(read_video(tmp_path / "view.mkv"), video)


@pytest.mark.parametrize(
    ("code", "said", "number"),
    [
        (1, b"[out#0] Error writing trailer: No space left on device", errno.ENOSPC),
        (-signal.SIGXFSZ, b"", errno.EFBIG),
    ],
)
def test_a_full_disk_and_a_limit_are_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: bytes, number: int
) -> None:
    ended = subprocess.CompletedProcess([], code, b"", said)
    monkeypatch.setattr(video_module, "_ffmpeg", lambda *_, **__: ended)
    with pytest.raises(OSError, match=r"drift\.mkv") as caught:
        write_video(tmp_path / "drift.mkv", noise(2, 16, 16), fps=16)
    assert caught.value.errno == number
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "drift.mp4"
    path.write_text("before")
    with pytest.raises(OSError, match="ffmpeg could not write"):
        write_video(path, drift(2, 16, 16), fps=0)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [("drift.mp4", "before")]


def test_success_leaves_nothing_but_the_video(tmp_path: Path) -> None:
    write_video(tmp_path / "new" / "drift.mp4", drift(2, 16, 16), fps=16)
    assert [entry.name for entry in (tmp_path / "new").iterdir()] == ["drift.mp4"]


def test_refuses_an_unknown_format(tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"drift\.gif is not a video format written here: end it in \.mp4"):
        write_video(tmp_path / "drift.gif", drift(2, 16, 16), fps=16)


@pytest.mark.parametrize("shape", [(2, 16, 16), (2, 16, 16, 4), (0, 16, 16, 3)])
def test_frames_of_another_shape_are_a_bug(tmp_path: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="frames must be uint8"):
        write_video(tmp_path / "drift.mp4", np.zeros(shape, np.uint8), fps=16)


@pytest.mark.parametrize("read", [read_video, frames_per_second])
def test_refuses_what_is_no_video(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "drift.mp4"
    with pytest.raises(VqError, match=r"drift\.mp4 is missing"):
        read(path)
    for content in (b"", b"not a video"):
        path.write_bytes(content)
        with pytest.raises(VqError, match=r"drift\.mp4 is not a video that can be decoded"):
            read(path)


def refused(path: Path) -> str:
    with pytest.raises(VqError) as caught:
        read_video(path)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_changes_no_frame_without_a_word(tmp_path: Path, suffix: str, seed: int) -> None:
    path = tmp_path / f"drift{suffix}"
    write_video(path, drift(3, 32, 32), fps=16)
    whole, content = read_video(path), bytearray(path.read_bytes())
    bit = int(np.random.default_rng(seed).integers(8 * len(content)))
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    try:
        found = read_video(path)
    except VqError:
        return
    assert np.array_equal(found, whole)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_cut_video_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"drift{suffix}"
    write_video(path, noise(9, 32, 32), fps=16)
    content = path.read_bytes()
    for share in (0.5, 0.8, 0.95):
        path.write_bytes(content[: int(share * len(content))])
        assert "is not a video that can be decoded (" in refused(path)


def test_damage_is_seen_without_a_seal_too(tmp_path: Path) -> None:
    path = tmp_path / "noise.mkv"
    write_video(path, noise(2, 32, 32), fps=16)
    content = bytearray(path.read_bytes()[: -len(ANNOUNCED[".mkv"]) - SEAL_BYTES])
    path.write_bytes(content)
    assert np.array_equal(read_video(path), noise(2, 32, 32))
    content[len(content) // 3] ^= 1
    path.write_bytes(content)
    said = refused(path)
    assert "slice CRC mismatch" in said
    assert "0x" not in said.partition("CRC")[0]  # no address of ffmpeg's memory


def test_more_than_8_bits_become_8(tmp_path: Path) -> None:
    write_video(tmp_path / "drift.mp4", drift(3, 32, 32), fps=16)
    deep = ["-pix_fmt", "yuv420p10le", "-c:v", "libx264", str(tmp_path / "deep.mp4")]
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-i", str(tmp_path / "drift.mp4"), *deep]
    subprocess.run(command, check=True)
    back = read_video(tmp_path / "deep.mp4")
    assert back.shape == (3, 32, 32, 3)
    assert np.abs(back.astype(int) - drift(3, 32, 32)).mean() < 3


@pytest.mark.parametrize("name", ["drift.mp4", "drift.mkv"])
def test_knows_at_which_speed_a_video_is_shown(tmp_path: Path, name: str) -> None:
    write_video(tmp_path / name, drift(3, 16, 16), fps=12)
    assert frames_per_second(tmp_path / name) == 12


# Runs as its own process: forks writers, which kill themselves at the file-system call or process start of a number,
# and prints how many were killed before a number was so high that the writer finished.
KILLER = """
import itertools, os, signal, sys
from pathlib import Path
import numpy as np
from vq_core.media.video import write_video

frames = np.random.default_rng(0).integers(0, 256, (9, 64, 64, 3), dtype=np.uint8)
path, whole = map(Path, sys.argv[1:])

def killed(call):
    child = os.fork()
    if child == 0:
        calls = itertools.count()
        def hook(event, args):
            if event in ("os.mkdir", "subprocess.Popen", "os.rename", "os.rmdir") and next(calls) == call:
                os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(hook)
        write_video(path, frames, 8)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0

write_video(whole, frames, 8)
kills = 0
while killed(kills):
    assert not path.exists() or path.read_bytes() == whole.read_bytes()
    path.unlink(missing_ok=True)
    kills += 1
assert path.read_bytes() == whole.read_bytes()
print(kills)
"""


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_kill_leaves_no_video_or_a_whole_one(tmp_path: Path, suffix: str) -> None:
    command = [sys.executable, "-c", KILLER, str(tmp_path / f"x{suffix}"), str(tmp_path / f"whole{suffix}")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 3


@pytest.mark.parametrize("name", ["-x.mp4", "http:x.mkv", "concat:a|b.mkv", "pipe:1.mp4", "%03d.mkv", "a b'\"\\.mkv"])
def test_a_name_is_a_name_and_no_option_or_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    write_video(Path(name), drift(2, 16, 16), fps=8)
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert read_video(Path(name)).shape == (2, 16, 16, 3)
    assert frames_per_second(Path(name)) == 8
