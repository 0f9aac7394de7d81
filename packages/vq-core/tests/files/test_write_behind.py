import threading

import pytest

from vq_core.files.write_behind import write_behind


def test_calls_are_made_in_order_and_have_ended_with_the_block() -> None:
    written: list[int] = []
    with write_behind() as behind:
        for number in range(20):
            behind(written.append, number)
    assert written == list(range(20))


def test_the_caller_goes_on_while_one_call_is_made() -> None:
    go_on = threading.Event()
    done: list[bool] = []

    def write() -> None:
        done.append(go_on.wait(timeout=60))

    with write_behind() as behind:
        behind(write)
        go_on.set()  # never reached if the call above had waited for its own end
    assert done == [True]


def test_no_two_calls_are_made_at_a_time() -> None:
    busy = threading.Lock()
    free: list[bool] = []

    def write() -> None:
        free.append(busy.acquire(blocking=False))
        busy.release()

    with write_behind() as behind:
        for _ in range(50):
            behind(write)
    assert free == [True] * 50


def fail() -> None:
    raise OSError(28, "No space left on device")


def test_an_error_is_raised_by_the_next_call_which_is_not_made() -> None:
    written: list[int] = []
    with pytest.raises(OSError, match="No space left"), write_behind() as behind:
        behind(fail)
        behind(written.append, 1)
    assert not written


def test_an_error_of_the_last_call_is_raised_at_the_end() -> None:
    with pytest.raises(OSError, match="No space left"), write_behind() as behind:
        behind(fail)


def test_an_error_of_the_block_waits_for_the_call_that_is_being_made() -> None:
    go_on = threading.Event()
    written: list[int] = []

    def write() -> None:
        go_on.wait(timeout=60)
        written.append(1)

    with pytest.raises(KeyError), write_behind() as behind:
        behind(write)
        threading.Timer(0.05, go_on.set).start()
        raise KeyError("the block's own")
    assert written == [1]
