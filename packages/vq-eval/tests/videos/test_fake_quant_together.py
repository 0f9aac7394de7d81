"""Several processes, as torchrun starts them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vq_core.artifacts.videos import FORMAT, KIND
from vq_core.store.reader import open_artifact
from vq_core.testing.tiny_models import Variant

MakeJob = Callable[[Variant], Any]
StartRanks = Callable[..., list[Any]]
TIMEOUT_S = 400


def arguments(work: Any) -> list[str]:
    inputs = ["--model", work.model, "--weights", work.weights, "--qparams", work.qparams, "--prompts", work.prompts]
    small = ["--steps", 2, "--height", 64, "--width", 64, "--num-frames", 5, "--device", "cpu"]
    variants = ["--variants", "full,smoothed,fake-quant", "--no-cache"]
    return ["fake-quant", *map(str, [*inputs, *small, *variants, "-o", work.output])]


def videos(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.suffix in (".mkv", ".mp4")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_two_processes_give_the_videos_of_one(job: MakeJob, whole: Path, start_ranks: StartRanks) -> None:
    work = job("t2v")
    # torchrun starts `python -m vq_eval`.
    run_module = "import runpy; runpy.run_module('vq_eval', run_name='__main__')"
    code = f"import sys\nsys.argv = {['vq-eval', *arguments(work)]}\n{run_module}"
    ranks = start_ranks(code, code)
    for rank in ranks:
        assert rank.ended(TIMEOUT_S) == 0, rank.stderr
    assert [rank.stdout.count("Videos of each variant") for rank in ranks] == [1, 0]
    assert videos(work.output) == videos(whole)
    ours, alone = (open_artifact(path, KIND, FORMAT).manifest for path in (work.output, whole))
    assert (ours.settings, ours.components, ours.parents) == (alone.settings, alone.components, alone.parents)
    assert ours.files.keys() == alone.files.keys()
