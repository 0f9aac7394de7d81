"""Silencing messages of libraries that users cannot act on."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def silenced_libraries() -> Iterator[None]:
    """Hide loading bars, what transformers remarks of files, and diffusers' list of keys that it ignores.

    Wan2.2's own VAE has such a key. What is wrong with a file is said by `vq_core.sampling.pretrained`, which looks at
    it before.
    """
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    shown = [library for library in (diffusers_logging, transformers_logging) if library.is_progress_bar_enabled()]
    # Often this stands within another. To set a level, even the same, makes every logger of the process forget its own.
    loggers = [logging.getLogger(name) for name in ("transformers", "diffusers.configuration_utils")]
    remarks = [logger for logger in loggers if logger.level < logging.ERROR]
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
