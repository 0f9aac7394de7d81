"""What a campaign works on: a folder of inputs, and a process that has imported all that the commands need.

Commands are forked from this process (`campaign.child`), so it starts no thread and runs nothing of them itself. Which
modules a command needs is found by running it once in a child, which lists what it has imported.
"""

import gc
import hashlib
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from campaign.child import Call, Outcome, Prepare, run
from campaign.inputs import write_inputs
from campaign.roads import BUILT, Road, roads

MODULES = ".modules"
OWN = (".home", ".tmp", ".cache")
"""Folders in a working directory that are the command's surroundings."""
MAKERS = ("inputs.py", "roads.py", "outputs.py", "baseline.py", "file_events.py")


def import_what(call: Call, prepare: Prepare | None = None) -> Outcome:
    """Run `call` and import the modules that it has imported."""
    listing = call.folder.parent / f"{call.folder.name}{MODULES}"

    def list_modules_at_the_end() -> None:
        from threading import _register_atexit  # type: ignore[attr-defined]

        _register_atexit(lambda: listing.write_text("\n".join(sys.modules)))
        if prepare is not None:
            prepare()

    outcome = run(call, 300.0, list_modules_at_the_end)
    if listing.exists():
        import_all(listing.read_text().splitlines())
        listing.unlink()
    return outcome


def import_all(names: list[str]) -> None:
    """Import the modules of these names that there are, one thread in all."""
    for name in names:
        if name not in sys.modules and not name.startswith("__"):
            with suppress(Exception):
                import_module(name)
    gc.collect()
    gc.freeze()  # so that a child's collector does not copy the pages of what is only read


def threads() -> int:
    """How many threads this process has."""
    return len(list(Path("/proc/self/task").iterdir()))


def new_folder(folder: Path) -> Path:
    """A working directory with what `campaign.child.surroundings` names."""
    for name in OWN:
        (folder / name).mkdir(parents=True)
    return folder


def copy_inputs(inputs: Path, names: list[str], folder: Path) -> None:
    """Put copies of the inputs `names` into `folder`."""
    for name in names:
        source = inputs / name
        if source.is_dir():
            shutil.copytree(source, folder / name, symlinks=True)
        else:
            shutil.copy2(source, folder / name)


def build(inputs: Path, models: Mapping[str, Path] | None = None, only: Collection[str] | None = None) -> None:
    """Make every input in the folder `inputs`; or, with `models` that are there already, `only` some of the others.

    Raises:
        SystemExit: a command that makes one failed.
    """
    _in_child(lambda: write_inputs(inputs, models))
    new_folder(inputs)
    for road in roads(BUILT):
        if only is not None and road.words[-1] not in only:
            continue
        outcome = import_what(Call(road.line, inputs))
        if outcome.code != 0:
            raise SystemExit(f"{road.line} ended with {outcome.code}:\n{outcome.stderr}")
    for name in OWN:
        shutil.rmtree(inputs / name)


def kept_inputs(folder: Path) -> Path:
    """The inputs in `folder`, made anew unless they were made by the very sources that are here."""
    inputs, note, modules = folder / "inputs", folder / "made-by.txt", folder / "modules.txt"
    made_by = digest_of_sources()
    if not (note.exists() and note.read_text() == made_by):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        build(inputs)
        keep_modules(folder)
        note.write_text(made_by)
    import_all(modules.read_text().splitlines())
    return inputs


def keep_modules(folder: Path) -> None:
    """Note which modules are imported, for the next campaign on these inputs."""
    (folder / "modules.txt").write_text("\n".join(sys.modules))


def digest_of_sources() -> str:
    """SHA-256 of every source file of the packages, and of what makes the inputs."""
    root = Path(__file__).parents[2]
    digest = hashlib.sha256()
    for path in sorted([*root.glob("packages/*/src/**/*.py"), *(Path(__file__).with_name(it) for it in MAKERS)]):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _in_child(work: Callable[[], object]) -> None:
    """Do some work in a forked child, so that what it leaves in memory, and its threads, end with it."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - a child must not go on as its parent
            traceback.print_exc()
        finally:
            os._exit(status)
    if os.waitpid(pid, 0)[1] != 0:
        raise SystemExit("The campaign's own inputs could not be made.")


def attacked(inputs: Path) -> list[Road]:
    """The command lines whose inputs were made."""
    there = {path.name for path in inputs.iterdir()}
    return [road for road in roads() if set(road.reads(ALL)) <= there]


ALL = {road.words[-1] for road in roads(BUILT)} | {
    "t2v", "i2v", "vace", "experts", "prompts", "native", "single", "pth", "lora.safetensors",
    "recipe.yaml", "llmc.yaml", "gate.yaml", "image.png", "mask.png", "video.mkv", "encoder-model", "t5.safetensors",
    "clip.pth",
}  # fmt: skip
"""Names of all inputs."""
