"""Independent strict readers: what of ours reads a file without a word, these have to accept as well."""

import json
import signal
import subprocess
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import yaml
from imageio_ffmpeg import get_ffmpeg_exe
from PIL import Image
from safetensors import safe_open

from campaign.mutations.kinds import Kind

MAX_BYTES = 256 << 20
LIMIT_S = 5.0


def complaint(path: Path, kind: Kind) -> str | None:
    """What a strict reader of files of this `kind` says against `path`, if anything."""
    try:
        if not path.is_file():
            return "no file"
        if path.stat().st_size > MAX_BYTES:
            return "too large"
        with _time_limit():
            _READERS.get(kind, _anything)(path)
    except Exception as error:  # noqa: BLE001 - whatever a library raises is a complaint
        return f"{type(error).__name__}: {error}"[:200]
    return None


@contextmanager
def _time_limit() -> Iterator[None]:
    """Let a reader meet a bomb without the campaign waiting for it."""

    def give_up(number: int, frame: object) -> None:
        raise TimeoutError(f"not read after {LIMIT_S:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _anything(path: Path) -> None:
    path.read_bytes()


def _json(path: Path) -> None:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({key for key, _ in pairs}) < len(pairs):
            raise ValueError("a key stands there twice")
        return dict(pairs)

    def number(text: str) -> Any:
        raise ValueError(f"{text} is not JSON")

    json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=once, parse_constant=number)


def _yaml(path: Path) -> None:
    class Strict(yaml.SafeLoader):
        """Refuses a key that stands there twice."""

    def once(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [loader.construct_object(key) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        if len(set(keys)) < len(keys):
            raise ValueError("a key stands there twice")
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Strict.add_constructor("tag:yaml.org,2002:map", once)
    yaml.load(path.read_text(encoding="utf-8-sig"), Strict)


def _safetensors(path: Path) -> None:
    with safe_open(path, framework="pt") as opened:
        for name in opened.keys():  # noqa: SIM118 - no mapping
            tensor = opened.get_tensor(name)
            if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
                raise ValueError(f"{name} is not finite")


def _picture(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Image.open(path) as opened:
            opened.verify()
        with Image.open(path) as opened:
            opened.load()


def _video(path: Path) -> None:
    strict = [get_ffmpeg_exe(), "-v", "error", "-xerror", "-i", str(path), "-f", "null", "-"]
    done = subprocess.run(strict, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL)
    if done.returncode or done.stderr.strip():
        raise ValueError(done.stderr.strip()[:150] or "ffmpeg fails")


def _zip(path: Path) -> None:
    loaded = torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251 - a strict reader of `.pth`
    for name, tensor in loaded.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor.float()).all():
            raise ValueError(f"{name} is not finite")


def _text(path: Path) -> None:
    path.read_text(encoding="utf-8")


_READERS: dict[Kind, Callable[[Path], None]] = {
    Kind.JSON: _json,
    Kind.YAML: _yaml,
    Kind.SAFETENSORS: _safetensors,
    Kind.PICTURE: _picture,
    Kind.VIDEO: _video,
    Kind.ZIP: _zip,
    Kind.TEXT: _text,
}
