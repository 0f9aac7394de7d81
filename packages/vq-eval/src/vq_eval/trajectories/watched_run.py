"""Sampling one prompt and seeing every step: what the transformer predicts, and what the scheduler makes of it.

A run may be *forced* along another run's path: whatever is predicted, the scheduler is given the other run's
prediction, so that latents and history stay those of the other, and every step starts where the other's did.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class SeenStep:
    """What one denoising step computes.

    Attributes:
        predictions: outputs of the transformer by branch, in the order of the calls: with the prompt, then without.
        guided: their mixture, which the scheduler gets.
        latent: after the step, by this run's own prediction.
    """

    predictions: tuple[Tensor, ...]
    guided: Tensor
    latent: Tensor


class WatchedRun:
    """Watches the transformers and the scheduler of one run and hands over every step."""

    def __init__(
        self, on_step: Callable[[int, SeenStep], None], forced_prediction: Callable[[int], Tensor] | None = None
    ) -> None:
        """Watch a run.

        Args:
            on_step: gets the number of each step, from 0, and what was seen of it.
            forced_prediction: gives the guided prediction that the run is to follow, by the number of the step.
        """
        self._on_step = on_step
        self._forced_prediction = forced_prediction
        self._predictions: list[Tensor] = []
        self._step = 0

    @contextmanager
    def attached(self, transformers: Mapping[str, nn.Module]) -> Iterator[None]:
        """Watch `transformers` within the block."""
        with ExitStack() as hooks:
            for transformer in transformers.values():
                hooks.enter_context(transformer.register_forward_hook(self._see))
            yield

    def watch(self, scheduler: Any) -> None:
        """Watch a diffusers scheduler, which has not begun yet."""
        plain_step = type(scheduler).step

        def step(guided: Tensor, timestep: Tensor, latent: Tensor, return_dict: bool = True) -> Any:
            if self._forced_prediction is None:
                after = taken = plain_step(scheduler, guided, timestep, latent, return_dict=False)[0]
            else:
                # A copy takes the step that is judged, with the history of the path that is followed.
                after = plain_step(deepcopy(scheduler), guided, timestep, latent, return_dict=False)[0]
                followed = self._forced_prediction(self._step)
                taken = plain_step(scheduler, followed, timestep, latent, return_dict=False)[0]
            self._on_step(self._step, SeenStep(tuple(self._predictions), guided, after))
            self._predictions.clear()
            self._step += 1
            return (taken,)

        scheduler.step = step

    def _see(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        # The pipelines ask for tuples; a copy, because they may go on with the tensor in place.
        self._predictions.append(torch.clone(output[0]))
