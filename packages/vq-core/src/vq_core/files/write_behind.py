"""Writing one block while the device works on the next."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import ParamSpec

P = ParamSpec("P")


class WriteBehind:
    """Makes calls in a thread behind, one at a time and in order; made by `write_behind`."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self._executor = executor
        self._pending: Future[None] | None = None

    def __call__(self, write: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Make this call as soon as the one before it has ended, and do not wait for its own end.

        Raises:
            Exception: what the call before has raised; this one is not made then.
        """
        self.finish()
        self._pending = self._executor.submit(write, *args, **kwargs)

    def finish(self) -> None:
        """Wait until the last call has ended, and raise what it has raised."""
        if self._pending is not None:
            pending, self._pending = self._pending, None
            pending.result()


@contextmanager
def write_behind() -> Iterator[WriteBehind]:
    """Calls that are made in a thread behind; all have ended when the block ends, with or without an error.

    Of what is written, one block more is in memory. That pays where the next one is computed on another device.

    Raises:
        Exception: what the last call has raised.
    """
    with ThreadPoolExecutor(1) as executor:
        behind = WriteBehind(executor)
        yield behind
        behind.finish()
