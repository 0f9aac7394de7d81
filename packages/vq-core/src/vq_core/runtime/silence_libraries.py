"""Silencing messages of libraries that users cannot act on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced_libraries() -> Iterator[None]:
    """Hide the loading bars of diffusers and transformers, and transformers' remark about torchvision.

    Warnings stay, such as the one that missing weights were initialised at random.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    remarks = logging.getLogger("transformers.utils.import_utils")
    level = remarks.level
    remarks.setLevel(logging.ERROR)
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
        remarks.setLevel(level)
