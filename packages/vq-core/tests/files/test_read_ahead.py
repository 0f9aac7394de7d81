import threading
from collections.abc import Iterator

import pytest

from vq_core.files.read_ahead import read_ahead


def test_items_come_in_order_and_each_was_read_before() -> None:
    read: list[int] = []
    for item in read_ahead(range(20), read.append):
        assert item in read
    assert read == list(range(20))


def test_the_next_item_is_read_while_one_is_worked_on() -> None:
    was_read = {item: threading.Event() for item in range(3)}
    items = read_ahead(range(3), lambda item: was_read[item].set())
    assert next(items) == 0
    assert was_read[1].wait(timeout=60)
    assert not was_read[2].is_set()
    assert list(items) == [1, 2]


def test_no_items() -> None:
    assert list(read_ahead([], print)) == []


def test_an_error_comes_in_place_of_the_item() -> None:
    def read(item: int) -> None:
        if item == 1:
            raise OSError(5, "Input/output error")

    items: Iterator[int] = read_ahead(range(3), read)
    assert next(items) == 0
    with pytest.raises(OSError, match="Input/output error"):
        next(items)
