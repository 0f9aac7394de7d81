"""A case in which one file of one input is damaged before the command runs."""

from pathlib import Path

from campaign.inputs import files_below
from campaign.mutations.choice import mutate
from campaign.mutations.kinds import kind_of
from campaign.mutations.target import Target
from campaign.readers import complaint
from campaign.stage import Stage, Told, judge

MANIFEST = "manifest.json"


def run(stage: Stage) -> Told:
    """Choose an input, a file of it and a mutation; run; judge."""
    root = stage.folder / stage.chance.choice(stage.reads)
    path = stage.chance.choice(list(files_below(root)))
    where = path.relative_to(stage.folder).as_posix()
    kind, protected, content = kind_of(path), is_protected(path, root), path.read_bytes()
    name, said = mutate(Target(path, root, stage.chance))
    excuse = _excuse(path, where, protected, content, complaint(path, kind))
    scene = stage.scene()
    outcome = stage.run(stage.call)
    return stage.told(name, f"{where}: {said}", judge(scene, outcome, excuse))


def is_protected(path: Path, root: Path) -> bool:
    """Whether a manifest above `path`, up to the input's root, is responsible for it."""
    if path == root:
        return False
    return any((folder / MANIFEST).exists() for folder in path.parents if folder.is_relative_to(root))


def _excuse(path: Path, where: str, protected: bool, content: bytes, complains: str | None) -> str | None:
    """Why another output may be right."""
    if protected or complains is not None:
        return None
    try:
        same = path.read_bytes() == content
    except OSError:
        return None
    return None if same and not path.is_symlink() else f"{where} is the user's own, and another one"
