"""The built-in models, as `--model` finds them: entry points of the group `vq_core.models`."""

import hashlib
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from platformdirs import user_cache_path

SEED = 0
"""Seed of the twins' outlier channels and massive hidden units."""

Build = Callable[[Path, Path, int], None]
"""Writes a twin: from the folder of its source, to a folder, with a seed."""


def wan_tiny() -> Path:
    """Folder of the trained model, in diffusers' layout."""
    return Path(str(files("vq_wan_tiny") / "wan_tiny"))


def wan_tiny_hard() -> Path:
    """Folder of the hard twin of `wan_tiny`, in the user's cache; made when it is first asked for.

    Raises:
        OSError: the cache cannot be written.
    """
    from vq_wan_tiny.hard import VERSION, build_hard

    return twin(wan_tiny(), "hard", f"{VERSION}", build_hard, user_cache_path("vq", appauthor=False))


def wan_tiny_harder() -> Path:
    """Folder of the harder twin of `wan_tiny`, in the user's cache; made when it is first asked for.

    Raises:
        OSError: the cache cannot be written.
    """
    from vq_wan_tiny.harder import VERSION, build_harder

    return twin(wan_tiny(), "harder", VERSION, build_harder, user_cache_path("vq", appauthor=False))


def twin(model: Path, kind: str, version: str, build: Build, cache: Path) -> Path:
    """Folder of the twin of the pipeline `model` that `build` writes, below `cache`; see `vq_wan_tiny.hard`, `.harder`.

    Its name says what it was made from, so that a twin of another model or by another construction is never taken for
    it. It appears whole or not at all, and of two processes that make it at once the first wins.

    Raises:
        VqError: `model` is not a whole pipeline.
        OSError: `cache` cannot be written.
    """
    from vq_core.files.tensor_file import publish, sync
    from vq_core.remote.claim import alone
    from vq_core.remote.draft_folder import draft_folder

    identity = hashlib.sha256(f"{_digest(model)} {SEED} {version}".encode())
    folder = cache / f"{model.name}-{kind}-{identity.hexdigest()[:16]}"
    if folder.is_dir():
        return folder
    with alone(cache / "locks" / f"{folder.name}.lock", f"makes {folder}"):
        if not folder.is_dir():
            with draft_folder(folder) as draft:
                build(model, draft, SEED)
                for path in draft.rglob("*"):
                    sync(path)
                publish(draft, folder)
    return folder


def _digest(folder: Path) -> str:
    """SHA-256 over names and content of every file: a twin copies the encoders and the VAE too."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
