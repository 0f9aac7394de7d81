"""Transformers that take turns on the device: each is loaded when it is called first, and only one is there."""

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

_log = logging.getLogger(__name__)


class OneOnDevice:
    """At most one transformer of a pipeline, loaded when its turn comes."""

    def __init__(self, load: Callable[[str], nn.Module]) -> None:
        self._load = load
        self._name: str | None = None
        self._model: nn.Module | None = None

    def get(self, name: str) -> nn.Module:
        """The transformer `name`; the other one is released first."""
        if self._model is None or self._name != name:
            self.release()
            self._name, self._model = name, self._load(name)
        return self._model

    def release(self) -> None:
        """Give the memory of the transformer back, if one is loaded."""
        if self._model is None:
            return
        _log.debug("Releasing %s", self._name)
        self._name = self._model = None
        gc.collect()  # modules hold cycles
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()


class LazyTransformer(nn.Module):
    """Stands for a transformer in a diffusers pipeline, which keeps references to its parts.

    It has no weights. The real transformer is loaded at the first call, not when the pipeline reads its attributes, so
    the VAE has encoded the first frame by then.

    Attributes:
        config: of the transformer.
        dtype: of its activations.
        device: that it is on when it is called.
    """

    def __init__(
        self, transformers: OneOnDevice, name: str, config: Any, dtype: torch.dtype, device: torch.device
    ) -> None:
        super().__init__()
        self.config, self.dtype, self.device = config, dtype, device
        self._transformers = transformers
        self._name = name

    @contextmanager
    def cache_context(self, *args: Any, **kwargs: Any) -> Iterator[None]:
        """The transformer's own `cache_context`."""
        model: Any = self._transformers.get(self._name)
        with model.cache_context(*args, **kwargs):
            yield

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the transformer."""
        return self._transformers.get(self._name)(*args, **kwargs)
