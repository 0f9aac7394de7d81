"""Damage to pictures and videos: another mode, size, depth or format under the same name."""

import io
import struct
import subprocess
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image

from campaign.mutations.target import Mutation, Target

MODES = ("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "I", "F", "I;16", "LAB")


def _save(target: Target, image: Image.Image, kind: str) -> None:
    written = io.BytesIO()
    image.save(written, kind)
    target.replace(written.getvalue())


def _opened(target: Target) -> Image.Image:
    with Image.open(target.path) as image:
        image.load()
        return image.convert("RGB")


def other_mode(target: Target) -> str | None:
    mode = target.chance.choice(MODES)
    image = _opened(target)
    try:
        changed = image.convert("L").convert(mode) if mode in ("I", "F", "I;16") else image.convert(mode)
        _save(target, changed, "PNG" if mode in ("1", "L", "LA", "P", "RGBA", "I", "I;16") else "TIFF")
    except (OSError, ValueError):
        return None
    return mode


def sixteen_bits(target: Target) -> str:
    levels = np.asarray(_opened(target).convert("L")).astype(np.uint16) * 257
    _save(target, Image.fromarray(levels), "PNG")
    return "grey, 16 bits"


def transparent(target: Target) -> str:
    image = _opened(target).convert("RGBA")
    image.putalpha(target.chance.choice((0, 128)))
    _save(target, image, "PNG")
    return "alpha"


def other_size(target: Target) -> str:
    size = target.chance.choice(((1, 1), (1, 4000), (4000, 1), (3, 5), (2000, 2000), (16384, 2)))
    _save(target, _opened(target).resize(size), "PNG")
    return f"{size[0]}x{size[1]}"


def bomb(target: Target) -> str:
    """A PNG that says it has billions of pixels."""
    width, height = target.chance.choice(((30_000, 30_000), (100_000, 100_000), (2**31 - 1, 1), (0, 0)))
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(bytes(1 << 20))), (b"IEND", b""))
    parts = [struct.pack(">I", len(it)) + name + it + struct.pack(">I", zlib.crc32(name + it)) for name, it in chunks]
    target.replace(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return f"{width}x{height}"


def animation(target: Target) -> str:
    image, kind = _opened(target), target.chance.choice(("GIF", "PNG", "TIFF"))
    written = io.BytesIO()
    image.save(written, kind, save_all=True, append_images=[image.rotate(90), image.rotate(180)])
    target.replace(written.getvalue())
    return kind


def rotated(target: Target) -> str:
    image = _opened(target)
    exif = image.getexif()
    exif[0x0112] = target.chance.choice((3, 6, 8, 99))
    written = io.BytesIO()
    image.save(written, "JPEG", exif=exif)
    target.replace(written.getvalue())
    return f"orientation {exif[0x0112]}"


def other_format(target: Target) -> str:
    kind = target.chance.choice(("JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM"))
    _save(target, _opened(target), kind)
    return kind


def text_for_picture(target: Target) -> str:
    target.replace(b"<svg xmlns='http://www.w3.org/2000/svg'/>")
    return "SVG"


PICTURE: dict[str, Mutation] = {
    "another mode": other_mode,
    "16 bits": sixteen_bits,
    "transparent": transparent,
    "another size": other_size,
    "a bomb": bomb,
    "an animation": animation,
    "rotated": rotated,
    "another format": other_format,
    "no picture": text_for_picture,
}


def _encoded(target: Target, *options: str) -> None:
    """The video, taken through ffmpeg."""
    with TemporaryDirectory() as folder:
        made = Path(folder) / f"made{target.path.suffix}"
        command = [get_ffmpeg_exe(), "-v", "quiet", "-i", str(target.path), *options, "-y", str(made)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        target.replace(made.read_bytes())


def fewer_frames(target: Target) -> str | None:
    count = target.chance.choice((1, 2, 4))
    try:
        _encoded(target, "-frames:v", str(count), "-c:v", "ffv1" if target.path.suffix == ".mkv" else "libx264")
    except subprocess.CalledProcessError:
        return None
    return f"{count} frames"


def twice_as_long(target: Target) -> str | None:
    try:
        _encoded(target, "-vf", "loop=1:3", "-c:v", "ffv1" if target.path.suffix == ".mkv" else "libx264")
    except subprocess.CalledProcessError:
        return None
    return "more frames"


def other_frame_size(target: Target) -> str | None:
    try:
        _encoded(target, "-vf", "scale=16:16", "-c:v", "ffv1" if target.path.suffix == ".mkv" else "libx264")
    except subprocess.CalledProcessError:
        return None
    return "16x16"


def cut(target: Target) -> str:
    content = target.path.read_bytes()
    kept = target.chance.randrange(len(content) // 3, len(content))
    target.replace(content[:kept])
    return f"to {kept} of {len(content)} bytes"


def bit_in_a_frame(target: Target) -> str:
    content = bytearray(target.path.read_bytes())
    where = target.chance.randrange(len(content) // 4, len(content) * 3 // 4)
    content[where] ^= 1 << target.chance.randrange(8)
    target.replace(bytes(content))
    return f"byte {where}"


def playlist(target: Target) -> str:
    target.replace(
        target.chance.choice((b"#EXTM3U\n#EXTINF:1,\n/etc/hostname\n", b"ffconcat version 1.0\nfile /etc/hostname\n"))
    )
    return "a playlist of another file"


VIDEO: dict[str, Mutation] = {
    "fewer frames": fewer_frames,
    "more frames": twice_as_long,
    "another size": other_frame_size,
    "cut": cut,
    "a bit in a frame": bit_in_a_frame,
    "a playlist": playlist,
}
