"""Classifier-free guidance with its two predictions on two halves of the processes."""

from typing import Any

import torch
import torch.distributed as dist
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager
from torch import Tensor, nn

COND, UNCOND = "cond", "uncond"
NAME = "vq_split_guidance"


class _Nothing(BaseState):  # type: ignore[misc]
    """There is no state but the pipeline's word which prediction it asks for."""

    def reset(self) -> None:
        """Nothing to forget."""


class SplitGuidance(ModelHook):  # type: ignore[misc]
    """Around a transformer's forward: predicts on one half only, and gives both halves both predictions.

    The pipeline asks for the prediction with the prompt and then for that without, and combines them. The first half
    computes the former when it is asked for it. The other gives out memory that is still empty, computes the latter at
    once, and both exchange what they have before the second answer; so the pipeline combines the same two predictions
    by its own formula, in every process.
    """

    _is_stateful = True

    def __init__(self, group: dist.ProcessGroup) -> None:
        """`group` has two processes: the first predicts with the prompt."""
        super().__init__()
        self._group = group
        self._own = (COND, UNCOND)[dist.get_rank(group)]
        self._prediction: Tensor | None = None
        self.branch = StateManager(_Nothing)

    def new_forward(self, module: nn.Module, *args: Any, **kwargs: Any) -> tuple[Tensor]:
        """The answer to one of the pipeline's two questions, a tuple as with `return_dict=False`."""
        asked = self.branch.context.name
        own = self._predict(*args, **kwargs) if asked == self._own else None
        if asked == COND:
            x: Tensor = kwargs["hidden_states"]
            self._prediction = own if own is not None else _empty_prediction(module, x)
            return (self._prediction,)
        if self._prediction is None:
            raise RuntimeError("the prediction without the prompt was asked for first")
        return (self._exchange(self._prediction, own),)

    def reset_state(self, module: nn.Module) -> nn.Module:
        """The pipeline is done."""
        self.branch.reset()
        self._prediction = None
        return module

    def _predict(self, *args: Any, **kwargs: Any) -> Tensor:
        prediction: Tensor = self.fn_ref.original_forward(*args, **kwargs | {"return_dict": False})[0]
        return prediction

    def _exchange(self, cond: Tensor, uncond: Tensor | None) -> Tensor:
        """Fill in `cond` where this half did not compute it, and return the other prediction."""
        own = (cond if uncond is None else uncond).contiguous()
        both = own.new_empty(2, *own.shape)
        dist.all_gather_into_tensor(both, own[None], group=self._group)
        self._prediction = None
        if uncond is None:
            return both[1]
        cond.copy_(both[0])
        return uncond


def _empty_prediction(module: nn.Module, x: Tensor) -> Tensor:
    config: Any = module.config
    return torch.empty(x.shape[0], config.out_channels, *x.shape[2:], dtype=x.dtype, device=x.device)
