"""The files of a folder: all of them, and those that are its content whoever has carried the folder about."""

from pathlib import Path

MODEL_CARD = "README.md"


def files_below(folder: Path) -> dict[str, Path]:
    """Every file below `folder` by its path there, in the order of the paths."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def content_of(folder: Path) -> dict[str, Path]:
    """The files below `folder` that are part of what it holds, by their paths there.

    No name in such a path begins with a dot: those are working files of a run, or a hub client's
    (`.cache/huggingface`, `.gitattributes`). Nor is a model card in the folder itself part of it.
    """
    return {name: path for name, path in files_below(folder).items() if not _is_beside(name)}


def size_of(folder: Path) -> int:
    """Bytes of the content of `folder`."""
    return sum(path.stat().st_size for path in content_of(folder).values())


def is_file_name(name: str) -> bool:
    """Is `name` that of something in a folder itself, neither below it nor outside?"""
    return name not in ("", "..") and name == Path(name).name


def _is_beside(name: str) -> bool:
    return name == MODEL_CARD or any(part.startswith(".") for part in name.split("/"))
