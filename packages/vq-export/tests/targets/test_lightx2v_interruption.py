"""An export that is killed is completed bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    duration = float("inf")
    for _ in range(3):  # the first loads what later ones find, and a kill after the end is none
        start = time.monotonic()
        export(open_model(inputs, Recipe()), root / "whole")
        duration = min(duration, time.monotonic() - start)
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
