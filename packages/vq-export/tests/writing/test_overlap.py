"""Two shards at once, errors as if there were one, and torch's threads as they were."""

import threading
import time
from contextlib import nullcontext

import pytest
import torch

from vq_core.errors import VqError
from vq_export.writing.overlap import WORKERS, overlap


def test_results_come_in_order_and_in_the_calling_thread() -> None:
    given: list[tuple[int, threading.Thread]] = []

    def work(item: int) -> int:
        time.sleep(0.001 * (item % 3))
        return item * item

    overlap(work, range(20), lambda result: given.append((result, threading.current_thread())))
    assert given == [(item * item, threading.current_thread()) for item in range(20)]


def test_an_error_of_done_ends_the_work() -> None:
    begun: list[int] = []

    def done(result: None) -> None:
        raise OSError(28, "No space left on device")

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.001)

    with pytest.raises(OSError, match="No space left"):
        overlap(work, range(1000), done)
    assert len(begun) < 1000


def test_as_many_as_there_are_workers_run_at_once_and_never_more() -> None:
    together = threading.Barrier(WORKERS, timeout=30)
    running: set[int] = set()
    most: list[int] = []

    def work(item: int) -> None:
        running.add(item)
        together.wait()  # breaks if an item is worked on alone
        most.append(len(running))
        together.wait()
        running.remove(item)

    overlap(work, range(4 * WORKERS), lambda _: None)
    assert max(most) == WORKERS == 2


def test_the_error_is_that_of_the_first_item_that_failed_and_no_work_outlives_it() -> None:
    begun: list[int] = []
    running: set[int] = set()
    errors = {item: VqError(f"item {item}") for item in (2, 3)}

    def work(item: int) -> None:
        begun.append(item)
        running.add(item)
        time.sleep(0.05 if item == 2 else 0.001)
        running.remove(item)
        if item in errors:
            raise errors[item]

    reported: list[None] = []
    with pytest.raises(VqError, match="item 2") as raised:
        overlap(work, range(1000), lambda _: reported.append(None))
    assert raised.value is errors[2]
    assert running == set()
    assert len(reported) == 2
    assert len(begun) < 1000
    time.sleep(0.01)
    assert running == set()


@pytest.mark.parametrize("fails", [False, True])
def test_workers_share_torchs_threads_and_give_them_back(fails: bool) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    seen: list[int] = []

    def work(item: int) -> None:
        seen.append(torch.get_num_threads())
        if fails:
            raise VqError("failed")

    try:
        with pytest.raises(VqError) if fails else nullcontext():
            overlap(work, range(4), lambda _: None)
        assert set(seen) == {3}
        assert torch.get_num_threads() == 6
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert seen[-1] == 6
    finally:
        torch.set_num_threads(before)
