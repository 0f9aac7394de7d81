"""Several processes, as torchrun starts them."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vq_core.artifacts.videos import FORMAT, KIND
from vq_core.partial import partial_folder
from vq_core.store import open_artifact
from vq_core.tiny import Variant

MakeJob = Callable[[Variant], Any]
TIMEOUT_S = 400

DIES = """
import os, signal
from vq_core.artifacts.videos import VideoFiles
write = VideoFiles.write
def dies(self, *rest):
    if self.lossless.parts[-2:] == ("fake-quant", "001.mkv"):
        os.kill(os.getpid(), signal.SIGKILL)
    write(self, *rest)
VideoFiles.write = dies
"""


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


def test_a_process_that_is_killed_leaves_what_one_alone_can_end(job: MakeJob, whole: Path) -> None:
    work = job("t2v")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    ranks = []
    for number in ("0", "1"):
        prelude = DIES if number == "1" else ""
        program = f"import sys\n{prelude}\nfrom vq_eval.cli import main\nsys.argv = ['vq-eval', *sys.argv[1:]]\nmain()"
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        variables = environment(RANK=number, LOCAL_RANK=number, WORLD_SIZE="2", **address)
        command = [sys.executable, "-c", program, *arguments(work)]
        ranks.append(subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True))
    errors = [rank.communicate(timeout=TIMEOUT_S)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [2, -signal.SIGKILL]
    assert "Another process ended before its part was done" in errors[0]
    assert not work.output.exists()
    assert (partial_folder(work.output) / "fake-quant" / "000.mkv").exists()
    work.asked = ("full", "smoothed", "fake-quant")
    assert work.run(resume=True).resumed_videos == 5
    assert videos(work.output) == videos(whole)
