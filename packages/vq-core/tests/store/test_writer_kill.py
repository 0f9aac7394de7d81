"""Atomicity under SIGKILL."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

# Runs as its own process: forks writers, kills them, continues what they left and compares it with an undisturbed
# artifact. First it kills at each file-system call of Python in turn, then at any time, so inside a write too.
KILLER = """
import itertools, os, random, shutil, signal, sys, time
from pathlib import Path
import torch
from vq_core.store.reader import open_artifact
from vq_core.store.writer import ComponentHeader, Header, create_artifact

torch.set_num_threads(1)  # a fork would inherit the pool without its threads
root = Path(sys.argv[1])
final, partial = root / "a", root / "a.partial"
header = Header("kind", 1, "test", "wan", "m", {"transformer": ComponentHeader("transformer", "f", {})})

def write(path, blocks, resume):
    with create_artifact(path, header, resume=resume) as writer:
        for block in range(blocks):
            file = f"transformer/block_{block}.safetensors"
            if not writer.has(file):
                tensors = {f"x{i}.{block}": torch.full((100_000,), i + block) for i in range(4)}
                writer.write_tensors(file, tensors)
        if not writer.has("run.sh"):
            writer.write_text("run.sh", "echo done")

def content(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

def killed(blocks, call=None, delay=None):
    child = os.fork()
    if child == 0:
        if call is not None:
            calls = itertools.count()
            def hook(event, args):
                if event in ("open", "os.rename", "os.remove", "os.mkdir") and next(calls) == call:
                    os.kill(os.getpid(), signal.SIGKILL)
            sys.addaudithook(hook)
        write(final, blocks, partial.exists())
        os._exit(0)
    if delay is not None:
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL

def check(expected, blocks):
    if final.exists():
        open_artifact(final, "kind", 1)
    else:
        write(final, blocks, True)
    found = content(final)
    for name in (".resume.json", ".journal-0.jsonl"):
        found.pop(name, None)  # what a kill right after the artifact appeared leaves; readers ignore it
    assert found == expected, (sorted(found), sorted(expected))
    assert not partial.exists()
    shutil.rmtree(final)

write(root / "small", 1, False)
expected = content(root / "small")
calls = 0
while killed(1, call=calls):
    check(expected, 1)
    calls += 1
check(expected, 1)

start = time.monotonic()
write(root / "large", 8, False)
duration = time.monotonic() - start
expected = content(root / "large")
at_any_time = 0
for trial in range(6):
    at_any_time += killed(8, delay=random.Random(trial).uniform(0, duration))
    check(expected, 8)
print(calls, at_any_time)
"""


def test_a_kill_leaves_nothing_or_what_resume_completes_bit_for_bit(
    tmp_path: Path, start_code: Callable[[str], Any]
) -> None:
    done = start_code(f"import sys\nsys.argv = {['', str(tmp_path)]}\n{KILLER}")
    assert done.ended(120) == 0, done.stderr
    calls, at_any_time = map(int, done.stdout.split())
    assert calls >= 20
    assert at_any_time >= 2
