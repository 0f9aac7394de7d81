"""Silencing messages of libraries that users cannot act on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced_libraries() -> Iterator[None]:
    """Hide loading bars, transformers' remark about torchvision, and diffusers' list of keys that it ignores.

    Wan2.2's own VAE has such a key. Other warnings stay, such as that missing weights were initialised at random.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    remarks = [logging.getLogger(f"{name}_utils") for name in ("transformers.utils.import", "diffusers.configuration")]
    levels = [logger.level for logger in remarks]
    for logger in remarks:
        logger.setLevel(logging.ERROR)
    for library in shown:
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library in shown:
            library.enable_progress_bar()
        for logger, level in zip(remarks, levels, strict=True):
            logger.setLevel(level)
