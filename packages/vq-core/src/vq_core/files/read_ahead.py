"""Reading the next item while the current one is processed."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def read_ahead(items: Iterable[T], read: Callable[[T], object]) -> Iterator[T]:
    """Yield `items`, each when `read` has ended for it; for the one after it, that is called in a thread meanwhile.

    Raises:
        Exception: what `read` has raised, in place of the item.
    """
    with ThreadPoolExecutor(1) as beside:
        reading: deque[tuple[T, Future[object]]] = deque()
        for item in items:
            reading.append((item, beside.submit(read, item)))
            if len(reading) > 1:
                yield _when_read(*reading.popleft())
        while reading:
            yield _when_read(*reading.popleft())


def _when_read(item: T, reading: Future[object]) -> T:
    reading.result()
    return item
