from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import vq_calib.collection.distributed
from vq_calib.collection.distributed import collect_here, part_path
from vq_calib.planning.calib_prompts import RunPart
from vq_calib.planning.run_plan import CollectRequest
from vq_core.errors import VqError
from vq_core.runtime.process import ALONE, Process
from vq_core.testing.tiny_models import write_samples

StartRanks = Callable[..., list[Any]]
Contents = Callable[[Path], dict[str, bytes]]
TIMEOUT_S = 240


@pytest.fixture(scope="module")
def request_(make_request: Callable[..., CollectRequest]) -> CollectRequest:
    return make_request(tokens=60)


@pytest.fixture(scope="module")
def alone(request_: CollectRequest, contents: Contents, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What a single process writes."""
    output = tmp_path_factory.mktemp("alone") / "stats"
    collected = collect_here(request_, output, ALONE)
    assert collected is not None
    assert collected.prompts == 3
    return contents(output)


def _code(request: CollectRequest, output: Path) -> str:
    """The command of a rank."""
    arguments = ["vq-calib", "collect", "--model", request.model, "--prompts", str(request.prompts), "--steps", "4"]
    arguments += ["--height", "64", "--width", "64", "--num-frames", "5", "--tokens", "60", "--device", "cpu"]
    return f"import sys\nfrom vq_calib.cli import main\nsys.argv = {[*arguments, '-o', str(output)]}\nmain()"


def test_two_processes_give_the_bytes_of_one(
    request_: CollectRequest, alone: dict[str, bytes], contents: Contents, tmp_path: Path, start_ranks: StartRanks
) -> None:
    code = _code(request_, tmp_path / "stats")
    ranks = start_ranks(code, code)
    assert [rank.ended(TIMEOUT_S) for rank in ranks] == [0, 0], [rank.stderr for rank in ranks]
    assert "".join(rank.stdout for rank in ranks).count("Statistics of") == 1
    assert contents(tmp_path / "stats") == alone
    assert [path.name for path in tmp_path.iterdir()] == ["stats"]


FAILS = """
from vq_core.errors import VqError
from vq_core.sampling.pipeline import VideoPipeline
def fail(*args): raise VqError("this rank fails")
VideoPipeline.denoise = fail
"""


@contextmanager
def _joined() -> Iterator[None]:
    yield


@pytest.fixture
def _without_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a rank run while the others do not."""
    monkeypatch.setattr(vq_calib.collection.distributed, "joined", _joined)
    monkeypatch.setattr(vq_calib.collection.distributed, "wait_for_all", lambda: None)


@pytest.mark.usefixtures("_without_the_others")
@pytest.mark.parametrize("failing", [0, 1])
def test_a_rank_that_fails_does_not_hang_the_other_and_can_be_resumed(
    failing: int,
    request_: CollectRequest,
    alone: dict[str, bytes],
    contents: Contents,
    tmp_path: Path,
    start_ranks: StartRanks,
) -> None:
    output = tmp_path / "stats"
    code = _code(request_, output)
    ranks = start_ranks(*(FAILS + code if number == failing else code for number in range(2)))
    assert [rank.ended(TIMEOUT_S) for rank in ranks] == [2, 2]
    errors = [rank.stderr for rank in ranks]
    assert "this rank fails" in errors[failing]
    assert "Another process ended before its part was done" in errors[1 - failing]
    kept = part_path(output, RunPart(2 - failing, 2))
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    if failing:
        return
    inode = (kept / "manifest.json").stat().st_ino
    assert collect_here(request_, output, Process(1, 2), resume=True) is None
    assert (kept / "manifest.json").stat().st_ino == inode
    assert collect_here(request_, output, Process(0, 2), resume=True) is not None
    assert contents(output) == alone


@pytest.mark.usefixtures("_without_the_others")
def test_what_ranks_cannot_share_is_refused(request_: CollectRequest, tmp_path: Path) -> None:
    one = write_samples(tmp_path / "one", 1, with_images=False)
    for request, output, message in (
        (replace(request_, part=RunPart(1, 2)), tmp_path / "stats", "`--part` and torchrun both divide the prompts"),
        (replace(request_, prompts=one), tmp_path / "stats", "1 prompts do not fill 2 parts: divide the run into at"),
        (request_, tmp_path, "exists already"),
    ):
        with pytest.raises(VqError, match=message):
            collect_here(request, output, Process(0, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["one"]
