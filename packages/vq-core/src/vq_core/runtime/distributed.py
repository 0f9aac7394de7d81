"""Synchronizing the processes of one command that torchrun started."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from torch import distributed

from vq_core.errors import Unfinished

TIME_TO_JOIN = timedelta(minutes=10)
TIME_TO_FINISH = timedelta(days=30)  # a rank with longer videos may take hours more than the others


@contextmanager
def joined() -> Iterator[None]:
    """Join the process group for the duration of the block."""
    distributed.init_process_group("gloo", timeout=TIME_TO_JOIN)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def wait_for_all() -> None:
    """Return when every rank has called this function.

    Raises:
        Unfinished: another process ended before.
    """
    try:
        distributed.monitored_barrier(timeout=TIME_TO_FINISH)
    except RuntimeError as error:
        raise Unfinished(
            f"Another process ended before its part was done ({str(error).splitlines()[0]}): "
            "fix what it reports and run the same command again with --resume."
        ) from None
