"""Collecting with one process, or with several that torchrun starts: each samples a part, and the first one merges."""

from dataclasses import replace

from vq_calib.collection.collect import Collected, collect, describe, finished_before
from vq_calib.collection.merge import merge
from vq_calib.planning.calib_prompts import RunPart
from vq_calib.planning.run_plan import CollectRequest
from vq_core.errors import VqError
from vq_core.remote.location import Location
from vq_core.remote.transfer import refuse_existing, remove
from vq_core.runtime.distributed import joined, wait_for_all
from vq_core.runtime.process import Process


def collect_here(
    request: CollectRequest, output: Location, process: Process, *, resume: bool = False
) -> Collected | None:
    """Collect all prompts if `process` is alone, else its part, which the first rank merges with the others.

    Parts lie beside `output` until they are merged. A rank that fails ends at once. torchrun then ends the others;
    without torchrun they finish their own part and then end, because one is gone.

    Returns:
        What the artifact holds, if this process is alone or the first rank; None in the others.

    Raises:
        VqError: see `collect` and `merge`; `--part` was given under torchrun; there are fewer prompts than ranks;
            another rank failed.
    """
    if process.is_alone:
        return collect(request, output, resume=resume)
    if request.part is not None:
        raise VqError("`--part` and torchrun both divide the prompts: use one of them.")
    refuse_existing(output)
    part = RunPart(process.rank + 1, process.world_size)
    mine, path = replace(request, part=part), part_path(output, part)
    with joined():
        collected = finished_before(mine, path) if resume else None
        collected = collected or collect(mine, path, resume=resume)
        wait_for_all()
    if not process.is_first:
        return None
    paths = [part_path(output, RunPart(number, part.of)) for number in range(1, part.of + 1)]
    merge(paths, output, resume=resume)
    for path in paths:
        remove(path)
    return describe(output, resumed_prompts=collected.resumed_prompts, step_seconds=collected.step_seconds)


def part_path(output: Location, part: RunPart) -> Location:
    """Where the statistics of `part` lie until they are merged."""
    return output.with_name(f"{output.name}.part-{part.number}-of-{part.of}")
