"""Two twins of a transformer, run side by side: at every module of interest, the calls of both are at hand together.

The full-precision one runs as usual, wherever it is called. Its twin runs in a thread beside it, on the same arguments,
and each waits for the other at every module, so that no more than a few modules' activations exist at any time, however
many blocks there are. Which of them waits changes nothing in what they compute.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from queue import Full, Queue
from threading import Thread
from typing import Any

import torch
from torch import nn

WHOLE = ""
"""Name of the transformer itself among its modules."""

_LOOK_EVERY_S = 0.05  # whether the other side still lives, while waiting for it


@dataclass(frozen=True)
class ModuleCall:
    """What a module was called with and gave."""

    name: str
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any


class _Stopped(Exception):
    """The full-precision side has ended early."""


class Lockstep:
    """Runs `twin` beside `full` and compares the modules `names`, the transformers themselves always and last."""

    def __init__(
        self,
        full: nn.Module,
        twin: nn.Module,
        names: Sequence[str],
        compare: Callable[[ModuleCall, ModuleCall], None],
    ) -> None:
        """Prepare; `compare` gets the full-precision call and its twin's, one module after another."""
        self._full, self._twin = full, twin
        self._names = (*names, WHOLE)
        self._compare = compare
        self._comparing = False
        self._calls: Queue[ModuleCall | None] = Queue(maxsize=1)
        self._thread: Thread | None = None
        self._failure: BaseException | None = None

    @contextmanager
    def attached(self) -> Iterator[None]:
        """Let every call of the full-precision transformer within the block be one of its twin, too.

        Raises:
            Exception: whatever `compare` or the twin raised, where the full-precision transformer is called.
        """
        with ExitStack() as hooks:
            hooks.enter_context(self._full.register_forward_pre_hook(self._start, with_kwargs=True))
            for name in self._names:
                for module, hook in ((self._full, self._offer_call), (self._twin, self._meet)):
                    submodule = module.get_submodule(name)
                    hooks.enter_context(submodule.register_forward_hook(partial(hook, name), with_kwargs=True))
            try:
                yield
            finally:
                self._stop()

    def _start(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._thread = Thread(target=self._run_twin, args=(args, kwargs), name="quantized twin", daemon=True)
        self._thread.start()

    def _run_twin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        try:
            with torch.no_grad():  # which a thread does not inherit
                self._twin(*args, **kwargs)
        except _Stopped:
            pass
        except BaseException as failure:  # noqa: BLE001 raised again in the other thread
            self._failure = failure

    def _offer_call(
        self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> None:
        self._offer(ModuleCall(name, args, kwargs, output))
        if name == WHOLE:
            self._join()

    def _offer(self, call: ModuleCall | None) -> None:
        assert self._thread is not None
        while self._thread.is_alive():
            try:
                self._calls.put(call, timeout=_LOOK_EVERY_S)
            except Full:
                continue
            return
        self._join()

    def _join(self) -> None:
        assert self._thread is not None
        self._thread.join()
        self._thread = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _meet(self, name: str, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        if self._comparing:  # a block that is run once more by `compare`
            return
        exact = self._calls.get()
        if exact is None:
            raise _Stopped
        if exact.name != name:
            raise RuntimeError(f"the twin has reached {name or 'its end'} and full precision {exact.name or 'its end'}")
        self._comparing = True
        try:
            self._compare(exact, ModuleCall(name, args, kwargs, output))
        finally:
            self._comparing = False

    def _stop(self) -> None:
        """End a twin that is in the middle of a call, because the other was stopped there."""
        if self._thread is not None and self._thread.is_alive():
            self._offer(None)
        self._thread = None
        self._calls = Queue(maxsize=1)
