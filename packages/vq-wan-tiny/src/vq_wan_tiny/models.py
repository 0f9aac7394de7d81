"""The built-in models, as `--model` finds them: entry points of the group `vq_core.models`."""

import hashlib
from importlib.resources import files
from pathlib import Path

from platformdirs import user_cache_path

SEED = 0
"""Seed of the hard twin's outlier channels."""


def wan_tiny() -> Path:
    """Folder of the trained model, in diffusers' layout."""
    return Path(str(files("vq_wan_tiny") / "wan_tiny"))


def wan_tiny_hard() -> Path:
    """Folder of the hard twin of `wan_tiny`, in the user's cache; made when it is first asked for.

    Raises:
        OSError: the cache cannot be written.
    """
    return hard_twin(wan_tiny(), user_cache_path("vq", appauthor=False))


def hard_twin(model: Path, cache: Path) -> Path:
    """Folder of the hard twin of the pipeline `model`, below `cache`; see `vq_wan_tiny.hard`.

    Its name says what it was made from, so that a twin of another model or by another construction is never taken for
    it. It appears whole or not at all, and of two processes that make it at once the first wins.

    Raises:
        VqError: `model` is not a whole pipeline.
        OSError: `cache` cannot be written.
    """
    from vq_core.files.tensor_file import publish, sync
    from vq_core.remote.claim import alone
    from vq_core.remote.draft_folder import draft_folder
    from vq_wan_tiny.hard import VERSION, build_hard

    identity = hashlib.sha256(f"{_digest(model)} {SEED} {VERSION}".encode())
    twin = cache / f"{model.name}-hard-{identity.hexdigest()[:16]}"
    if twin.is_dir():
        return twin
    with alone(cache / "locks" / f"{twin.name}.lock", f"makes {twin}"):
        if not twin.is_dir():
            with draft_folder(twin) as draft:
                build_hard(model, draft, SEED)
                for path in draft.rglob("*"):
                    sync(path)
                publish(draft, twin)
    return twin


def _digest(folder: Path) -> str:
    """SHA-256 over names and content of every file: the twin copies the encoders and the VAE too."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()} {path.stat().st_size}\n".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()
