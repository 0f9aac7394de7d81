"""The tests of Triton's kernels, in Triton's interpreter, in a process of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parents[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, on which they have run")
def test_kernels_pass_in_the_interpreter() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    files = [*sorted(TESTS.glob("*/test_*_triton.py")), TESTS / "kernels" / "test_triton_int8.py"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, files)],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(run.stdout.rpartition(" passed")[0].split()[-1]) >= 20
