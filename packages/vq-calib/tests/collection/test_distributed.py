from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vq_calib.collection.distributed
from vq_calib.collection.collect import collect
from vq_calib.collection.distributed import collect_here, collect_together, part_path
from vq_calib.planning.calib_prompts import RunPart
from vq_calib.planning.run_plan import CollectRequest
from vq_core.errors import VqError
from vq_core.runtime.process import Process
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant, write_samples

TinyModel = Callable[[Variant], Path]
StartRanks = Callable[..., list[Any]]
TIMEOUT_S = 240


@pytest.fixture(scope="module")
def request_(tiny_model: TinyModel, prompts: Path, sampling: Sampling) -> CollectRequest:
    return CollectRequest(str(tiny_model("t2v")), prompts, sampling, tokens=60, device="cpu")


def _arguments(request: CollectRequest, output: Path, *more: str) -> list[str]:
    model, prompts = ["--model", request.model], ["--prompts", str(request.prompts)]
    sizes = ["--steps", "4", "--height", "64", "--width", "64", "--num-frames", "5", "--tokens", "60"]
    return ["collect", *model, *prompts, *sizes, "--device", "cpu", "-o", str(output), *more]


def _code(arguments: list[str]) -> str:
    """A rank's command."""
    return f"import sys\nfrom vq_calib.cli import main\nsys.argv = {['vq-calib', *arguments]}\nmain()"


def _files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_two_processes_give_the_bytes_of_one(request_: CollectRequest, tmp_path: Path, start_ranks: StartRanks) -> None:
    collect(request_, tmp_path / "alone")
    (tmp_path / "together").mkdir()
    code = _code(_arguments(request_, tmp_path / "together" / "stats"))
    ranks = start_ranks(code, code)
    assert [rank.ended(TIMEOUT_S) for rank in ranks] == [0, 0], [rank.stderr for rank in ranks]
    assert "".join(rank.stdout for rank in ranks).count("Statistics of") == 1
    assert _files(tmp_path / "together" / "stats") == _files(tmp_path / "alone")
    assert [path.name for path in (tmp_path / "together").iterdir()] == ["stats"]


FAILS = """
from vq_core.errors import VqError
from vq_core.sampling.pipeline import VideoPipeline
def fail(*args): raise VqError("this rank fails")
VideoPipeline.denoise = fail
"""


@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_fails_does_not_hang_the_other_and_can_be_resumed(
    failing: int, request_: CollectRequest, tmp_path: Path, start_ranks: StartRanks
) -> None:
    output = tmp_path / "stats"
    code = _code(_arguments(request_, output))
    ranks = start_ranks(*(FAILS + code if number == failing else code for number in range(2)))
    assert [rank.ended(TIMEOUT_S) for rank in ranks] == [2, 2]
    errors = [rank.stderr for rank in ranks]
    assert "this rank fails" in errors[failing]
    assert "Another process ended before its part was done" in errors[1 - failing]
    kept = part_path(output, RunPart(2 - failing, 2))
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    if failing:
        return
    collect(request_, tmp_path / "alone")
    inode = (kept / "manifest.json").stat().st_ino
    with pytest.MonkeyPatch.context() as patched:
        _alone_as(patched)
        again = collect_together(request_, output, Process(1, 2), resume=True)
        assert again is None
        assert (kept / "manifest.json").stat().st_ino == inode
        assert collect_together(request_, output, Process(0, 2), resume=True) is not None
    assert _files(output) == _files(tmp_path / "alone")


def test_fewer_prompts_than_processes_are_refused(
    request_: CollectRequest, tmp_path: Path, start_ranks: StartRanks
) -> None:
    one = write_samples(tmp_path / "one", 1, with_images=False)
    code = _code(_arguments(replace(request_, prompts=one), tmp_path / "stats"))
    for rank in start_ranks(code, code):
        assert rank.ended(TIMEOUT_S) == 2
        assert "1 prompts do not fill 2 parts: divide the run into at most 1" in rank.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["one"]


def _alone_as(patched: pytest.MonkeyPatch) -> None:
    """Let a rank run without the others."""

    @contextmanager
    def joined() -> Iterator[None]:
        yield

    patched.setattr(vq_calib.collection.distributed, "joined", joined)
    patched.setattr(vq_calib.collection.distributed, "wait_for_all", lambda: None)


def test_every_process_has_its_own_part(
    request_: CollectRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[CollectRequest, Path]] = []
    _alone_as(monkeypatch)
    monkeypatch.setattr(
        vq_calib.collection.distributed, "collect", lambda request, path, resume: asked.append((request, path))
    )
    collect_together(request_, tmp_path / "stats", Process(5, 8))
    assert [(str(request.part), path.name) for request, path in asked] == [("6/8", "stats.part-6-of-8")]


def test_a_process_alone_collects_everything(request_: CollectRequest, tmp_path: Path) -> None:
    collected = collect_here(request_, tmp_path / "stats")
    assert collected is not None
    assert collected.prompts == 3


def test_a_part_of_a_part_and_an_output_that_exists_are_refused(request_: CollectRequest, tmp_path: Path) -> None:
    with pytest.raises(VqError, match="`--part` and torchrun both divide the prompts"):
        collect_together(replace(request_, part=RunPart(1, 2)), tmp_path / "stats", Process(0, 2))
    with pytest.raises(VqError, match="exists already"):
        collect_together(request_, tmp_path, Process(0, 2))
