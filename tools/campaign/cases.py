"""A case is a seed and a number: from these follow its road, what is done to it, and all that is left open."""

import os
import shutil
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from campaign import damage, kills, odd_words, storage, surroundings, twice
from campaign.baseline import Baseline
from campaign.child import LIMIT_S
from campaign.roads import Road
from campaign.stage import Stage, Told

RARE = {"vq-eval report": 0.5}
"""Commands that take longer, and how often they come beside the others."""


@dataclass(frozen=True)
class Sort:
    """A sort of cases: its share in hundredths, how it runs, and the roads that it is for."""

    share: int
    run: Callable[[Stage], Told]
    fits: Callable[[Road], bool] = lambda road: True


SORTS: Mapping[str, Sort] = {
    "damage": Sort(79, damage.run, lambda road: not road.line.startswith("vq-wan-tiny prompts")),
    "surroundings": Sort(5, surroundings.run),
    "odd words": Sort(6, odd_words.run),
    "kills": Sort(6, kills.run, lambda road: road.output is not None),
    "two at once": Sort(3, twice.run, lambda road: road.output is not None),
    "S3": Sort(1, storage.run, lambda road: storage.fits(road.command, road.words)),
}


@dataclass(frozen=True)
class Ground:
    """What all cases share: the inputs, the roads with their unharmed runs, a folder to work in, an S3 server."""

    inputs: Path
    baselines: Mapping[Road, Baseline]
    scratch: Path
    seed: int
    s3: str | None = None
    limit_s: float = LIMIT_S


@dataclass(frozen=True)
class Result:
    """What is kept of a case."""

    number: int
    sort: str
    road: str
    what: str
    exactly: str
    verdict: str
    why: str
    seconds: float


def draw(seed: int, number: int, roads: list[Road]) -> tuple[str, Road, Random]:
    """The sort and the road of a case, and the chance that decides the rest."""
    chance = Random(f"{seed}:{number}")
    (sort,) = chance.choices(list(SORTS), [it.share for it in SORTS.values()])
    fitting = [road for road in roads if SORTS[sort].fits(road)]
    if not fitting:
        sort, fitting = "damage", roads
    (road,) = chance.choices(fitting, [RARE.get(road.command, 1.0) for road in fitting])
    return sort, road, chance


def play(ground: Ground, number: int, keep: Path | None = None) -> tuple[Result, Told]:
    """Run one case; its folder is removed, or moved to `keep`."""
    sort, road, chance = draw(ground.seed, number, list(ground.baselines))
    place = ground.scratch / str(number)
    stage = Stage(road, ground.baselines[road], ground.inputs, place, chance, ground.s3, ground.limit_s)
    if sort == "S3" and ground.s3 is None:
        sort = "damage"
    told = SORTS[sort].run(stage)
    if keep is not None:
        shutil.copytree(place, keep, symlinks=True, ignore=_only_files, dirs_exist_ok=True)
    remove(place)
    seconds = sum(outcome.seconds for outcome in told.outcomes)
    why = told.judged.why.replace(f"{stage.folder}/", "").replace(str(stage.folder), ".")
    result = Result(number, sort, road.line, told.what, told.exactly, told.judged.verdict.value, why, round(seconds, 2))
    return result, told


def _only_files(folder: str, names: list[str]) -> set[str]:
    """Entries that cannot be copied: FIFOs and sockets."""
    modes = {name: os.lstat(Path(folder) / name).st_mode for name in names}
    return {name for name, mode in modes.items() if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)}


def remove(folder: Path) -> None:
    """Remove a case's folder, whatever permissions it has taken from itself."""
    if os.geteuid() != 0:
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
    shutil.rmtree(folder)
