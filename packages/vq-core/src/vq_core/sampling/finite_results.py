"""Refusal of NaN and infinity where a pipeline computes them, so that no black video looks finished."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vq_core.errors import VqError
from vq_core.numerics.finite import is_finite
from vq_core.sampling.prompts import Sample


def require_finite_embedding(embedding: Tensor, encoder: str, model: Path, sample: Sample) -> None:
    """Refuse an `embedding` on the host that an `encoder` of `model` gave for `sample`.

    Raises:
        VqError: an element is NaN or infinite.
    """
    if not is_finite(embedding):
        raise _refusal(f"The {encoder} of {model}", "", sample)


@dataclass(frozen=True)
class _Noted:
    """Whether something is finite, on its way to the host, and the sentence's words for what gave it, and when."""

    finite: Tensor
    arrived: torch.cuda.Event | None
    part: str
    when: str

    def is_bad(self) -> bool:
        if self.arrived is not None:
            self.arrived.synchronize()
        return not self.finite


class FiniteResults:
    """Watches what one video is made of: what the VAE and the transformers give, and the latents after every step.

    On CUDA the host looks one step behind, when the device has long computed the answer, so that neither waits.
    """

    def __init__(self, model: Path, sample: Sample, components: Sequence[str]) -> None:
        """Watch a run of `model` for `sample`; `components` has the transformer of each step."""
        self._model = model
        self._sample = sample
        self._components = components
        self._step = 0
        self._noted: list[_Noted] = []
        self._waiting: list[_Noted] = []

    @contextmanager
    def watched(self, pipeline: Any) -> Iterator[None]:
        """Watch a diffusers pipeline within the block, at whose end all that it gave is known to be finite.

        Raises:
            VqError: NaN or infinity; names the part, the step and the prompt.
        """
        with ExitStack() as hooks:
            # The VAE clamps its frames, which would hide infinity: its decoder is the last module before that.
            for module, when in (
                (pipeline.vae.quant_conv, " from the pictures"),
                (pipeline.vae.decoder, " in the frames"),
            ):
                hooks.enter_context(module.register_forward_hook(partial(self._see_vae, when)))
            take_step = pipeline.scheduler.step

            def step(prediction: Tensor, *args: Any, **kwargs: Any) -> Any:
                # By now processes that split the guidance have both predictions.
                self._note(prediction, self._components[self._step], self._when)
                return take_step(prediction, *args, **kwargs)

            pipeline.scheduler.step = step
            yield
        self._look()
        self._look()

    def end_step(self, latents: Tensor) -> None:
        """Look at the latents after a step, `[1, channels, frames, height, width]`.

        Raises:
            VqError: see `watched`; on CUDA about the step before.
        """
        self._note(latents, "scheduler", self._when)
        self._step += 1
        self._look()

    @property
    def _when(self) -> str:
        return f" in step {self._step + 1} of {len(self._components)}"

    def _see_vae(self, when: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> None:
        self._note(output, "VAE", when)

    def _note(self, tensor: Tensor, part: str, when: str) -> None:
        finite, arrived = is_finite(tensor), None
        if finite.is_cuda:
            finite, arrived = finite.to("cpu", non_blocking=True), torch.cuda.Event()
            arrived.record()
        self._noted.append(_Noted(finite, arrived, part, when))

    def _look(self) -> None:
        """Refuse what was noted before the last look, and what lies on the host already."""
        ready = self._waiting + [it for it in self._noted if it.arrived is None]
        self._waiting, self._noted = [it for it in self._noted if it.arrived is not None], []
        for noted in ready:
            if noted.is_bad():
                raise _refusal(f"The {noted.part} of {self._model}", noted.when, self._sample)


def _refusal(part: str, when: str, sample: Sample) -> VqError:
    return VqError(
        f"{part} gave NaN or infinite values{when} for {sample.name}: its weights or settings are damaged or overflow, "
        "so get them again."
    )
