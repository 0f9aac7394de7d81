"""Two shards at once, errors as if there were one, and torch's threads as they were."""

import threading
import time

import pytest
import torch

from vq_core.errors import VqError
from vq_export.writing.overlap import WORKERS, overlap


def test_what_work_gives_is_done_with_in_order_and_in_the_calling_thread() -> None:
    given: list[tuple[int, threading.Thread]] = []

    def work(item: int) -> int:
        time.sleep(0.002 * (item % 2 == 0))
        return item * item

    overlap(work, range(10), lambda result: given.append((result, threading.current_thread())))
    assert given == [(item * item, threading.current_thread()) for item in range(10)]


def test_an_error_of_what_is_done_ends_the_work() -> None:
    begun: list[int] = []

    def done(result: None) -> None:
        raise OSError(28, "No space left on device")

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.001)

    with pytest.raises(OSError, match="No space left"):
        overlap(work, range(1000), done)
    assert len(begun) < 1000


def test_every_item_is_worked_on_and_reported_in_order() -> None:
    worked: list[int] = []
    reported: list[int] = []

    def work(item: int) -> None:
        time.sleep(0.001 * (item % 3))
        worked.append(item)

    overlap(work, range(20), lambda _: reported.append(len(worked)))
    assert sorted(worked) == list(range(20))
    assert len(reported) == 20
    assert all(at_least <= done for at_least, done in enumerate(reported, start=1))


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

    def work(item: int) -> None:
        begun.append(item)
        running.add(item)
        time.sleep(0.05 if item == 2 else 0.001)
        running.remove(item)
        if item in (2, 3):
            raise VqError(f"item {item}")

    reported: list[None] = []
    with pytest.raises(VqError, match="item 2"):
        overlap(work, range(1000), lambda _: reported.append(None))
    assert running == set()
    assert len(reported) == 2
    assert len(begun) < 1000
    time.sleep(0.01)
    assert running == set()


def test_an_error_of_the_disk_is_the_same_object() -> None:
    error = OSError(28, "No space left on device", "/disk/x.safetensors")

    def work(item: int) -> None:
        raise error

    with pytest.raises(OSError, match="No space left") as caught:
        overlap(work, [0], lambda _: None)
    assert caught.value is error


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
        if fails:
            with pytest.raises(VqError):
                overlap(work, range(4), lambda _: None)
        else:
            overlap(work, range(4), lambda _: None)
        assert set(seen) == {3}
        assert torch.get_num_threads() == 6
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [6]
    finally:
        torch.set_num_threads(before)
