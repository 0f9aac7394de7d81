"""Several processes, as torchrun starts them."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vq_core.artifacts.videos import FORMAT, KIND
from vq_core.store import open_artifact
from vq_core.tiny import Variant

MakeJob = Callable[[Variant], Any]
TIMEOUT_S = 400


def arguments(work: Any) -> list[str]:
    inputs = ["--model", work.model, "--weights", work.weights, "--qparams", work.qparams, "--prompts", work.prompts]
    small = ["--steps", 2, "--height", 64, "--width", 64, "--num-frames", 5, "--device", "cpu"]
    variants = ["--variants", "full,smoothed,fake-quant", "--no-cache"]
    return ["fake-quant", *map(str, [*inputs, *small, *variants, "-o", work.output])]


def environment(**variables: str) -> dict[str, str]:
    # A result may depend on the number of threads, so it is that of the run in this process.
    return os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())} | variables


def videos(folder: Path) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("*") if path.suffix in (".mkv", ".mp4")]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_two_processes_give_the_videos_of_one(job: MakeJob, whole: Path) -> None:
    work = job("t2v")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "vq_eval"]
    done = subprocess.run(
        [*launcher, *arguments(work)],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Videos of each variant") == 1
    assert videos(work.output) == videos(whole)
    ours, alone = (open_artifact(path, KIND, FORMAT).manifest for path in (work.output, whole))
    assert (ours.settings, ours.components, ours.parents) == (alone.settings, alone.components, alone.parents)
    assert ours.files.keys() == alone.files.keys()
