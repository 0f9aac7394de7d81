"""Classifier-free guidance with its two predictions on two halves of the processes."""

from typing import Any

import torch
import torch.distributed as dist
from diffusers.hooks.hooks import BaseState, ModelHook, StateManager
from torch import Tensor, nn

COND, UNCOND = "cond", "uncond"
NAME = "vq_split_guidance"


class _Nothing(BaseState):  # type: ignore[misc]
    """The only state is which prediction the pipeline asks for."""

    def reset(self) -> None:
        """There is nothing to reset."""


class SplitGuidance(ModelHook):  # type: ignore[misc]
    """A hook around a transformer's forward: each half makes one prediction, and both halves get both.

    The pipeline asks first for the prediction with the prompt, then for the one without, and combines them. The first
    half computes the former when asked for it; the second half returns an empty tensor for it and computes the latter
    when asked. Before the second answer both exchange their predictions, and the empty tensor is filled. So in every
    process the pipeline combines the same two predictions by its own formula.
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
        """One of the two predictions, in a tuple as with `return_dict=False`."""
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
        """Forget the last prediction, at the end of a video."""
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
