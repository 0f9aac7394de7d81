"""An export that is killed is completed bit for bit, and none ever holds the whole model in memory."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.files.tensor_file import read_header

# Kills exports at random moments, resumes each, and compares it with an undisturbed one. Forks, to import only once.
KILLER = """
import os, random, shutil, signal, sys, time
from pathlib import Path
import torch
from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.recipes.recipe import Recipe
from vq_export.export import open_model
from vq_export.options import ExportOptions
from vq_export.targets.lightx2v import export

torch.set_num_threads(1)
root, cases = Path(sys.argv[1]), [
    ExportOptions(weights=Path(sys.argv[2]), qparams=Path(sys.argv[3])), ExportOptions(model=sys.argv[4], scheme="fp8")
]
killed = 0
for inputs in cases:
    start = time.monotonic()
    export(open_model(inputs, Recipe()), root / "whole")
    duration = time.monotonic() - start
    expected = open_checkpoint(root / "whole").artifact.digest
    shutil.rmtree(root / "whole")
    for trial in range(4):
        resume = False
        for delay in (random.Random(trial).uniform(0, duration) for _ in range(2)):
            resume = (root / "out.partial").exists()
            child = os.fork()
            if not child:
                if not (root / "out").exists():
                    export(open_model(inputs, Recipe()), root / "out", resume=resume)
                os._exit(0)
            time.sleep(delay)
            os.kill(child, signal.SIGKILL)
            killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        if not (root / "out").exists():
            export(open_model(inputs, Recipe()), root / "out", resume=True)
        assert open_checkpoint(root / "out").artifact.digest == expected
        assert os.access(root / "out" / "run_lightx2v.sh", os.X_OK)
        assert not (root / "out.partial").exists()
        shutil.rmtree(root / "out")
print(killed)
"""


def test_a_kill_at_any_moment_leaves_what_resume_completes_bit_for_bit(
    tmp_path: Path, smoothed_i2v: dict[str, Any], models: dict[str, Path], start_code: Callable[[str], Any]
) -> None:
    made = smoothed_i2v["int8"]
    arguments = [str(path) for path in (tmp_path, made.weights, made.qparams, models["t2v"])]
    done = start_code(f"import sys\nsys.argv = {['', *arguments]}\n{KILLER}")
    assert done.ended(240) == 0, done.stderr
    assert int(done.stdout) >= 8


# Resident memory, the mapped source included, while a model is converted, sampled by a thread.
PEAK = """
import ctypes, sys, threading
from pathlib import Path
import torch
from vq_core.recipes.recipe import Recipe
from vq_export.export import open_model
from vq_export.options import ExportOptions
from vq_export.targets.lightx2v import export

def resident_bytes():
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith("VmRSS"))
    return int(line.split()[1]) * 1024

# The C library keeps freed tensors under 32 MiB in its heap, as many as it likes: give them back at once.
M_MMAP_THRESHOLD = -3
ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)
warm, big, output = sys.argv[1:]

def growth(scheme):
    folder = f"{output}-{scheme}"
    export(open_model(ExportOptions(model=warm, scheme=scheme), Recipe()), Path(folder + "-warm"))
    before, seen, done = resident_bytes(), [0], threading.Event()

    def watch():
        while not done.wait(0.002):
            seen.append(resident_bytes())

    thread = threading.Thread(target=watch)
    thread.start()
    export(open_model(ExportOptions(model=big, scheme=scheme), Recipe()), Path(folder))
    done.set()
    thread.join()
    return max(seen) - before

print(growth("int8"), growth("fp8"))
"""


SLACK_BYTES = 16 << 20


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_holds_two_blocks_and_never_the_model(tmp_path: Path, models: dict[str, Path], big_model: Path) -> None:
    (file,) = big_model.glob("*.safetensors")
    sizes = {name: info.end - info.begin for name, info in read_header(file).items()}
    block_bytes = sum(size for name, size in sizes.items() if name.startswith("blocks.0."))
    allowed = 2 * block_bytes + SLACK_BYTES
    assert allowed < sum(sizes.values()) / 3  # or the bound would say nothing

    arguments = [str(path) for path in (models["t2v"], big_model, tmp_path / "out")]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", PEAK, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for grown in map(int, done.stdout.split()):
        # Fewer than the codes of one block would mean that the sampling missed the work.
        assert block_bytes / 2 < grown < allowed, f"{grown / 2**20:.0f} MiB, with {block_bytes / 2**20:.0f} MiB a block"
