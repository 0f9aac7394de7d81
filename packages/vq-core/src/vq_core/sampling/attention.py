"""Which kernel torch's attention runs, observed while it runs, and how to run another."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from vq_core.errors import VqError

AttentionKernel = Literal["cudnn", "flash", "efficient", "math"]

BACKENDS: dict[AttentionKernel, SDPBackend] = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
"""The kernels of `scaled_dot_product_attention`; the last one holds the whole matrix of scores in memory."""

PROBE_HEADS, PROBE_TOKENS = 2, 300


class _Operators(TorchDispatchMode):
    """Notes the operators that run."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's modes are typed in part
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(func.name())
        return func(*args, **(kwargs or {}))


class _Attention(TorchFunctionMode):
    """Notes the kernel of every attention, and lets it choose among `kernels` only, the first that can."""

    def __init__(self, kernels: Sequence[AttentionKernel], used: set[AttentionKernel]) -> None:
        super().__init__()
        self._backends = [BACKENDS[kernel] for kernel in kernels]
        self._used = used

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is not F.scaled_dot_product_attention:
            return func(*args, **(kwargs or {}))
        chosen = sdpa_kernel(self._backends, set_priority=True) if self._backends else nullcontext()
        with chosen, _Operators() as operators:
            result = func(*args, **(kwargs or {}))
        self._used.add(_kernel_of(operators.names))
        return result


@contextmanager
def attention_of(
    modules: Iterable[nn.Module], kernels: Sequence[AttentionKernel] = ()
) -> Iterator[set[AttentionKernel]]:
    """Watch the attention of `modules`, without altering it, within the block; yields the kernels that have run.

    With `kernels`, it runs the first of them that can take its inputs; without, what torch chooses.
    """
    used: set[AttentionKernel] = set()
    mode = _Attention(kernels, used)

    def enter(*_: object) -> None:
        mode.__enter__()  # type: ignore[no-untyped-call]

    def leave(*_: object) -> None:
        mode.__exit__(None, None, None)  # type: ignore[no-untyped-call]

    handles = []
    for module in modules:
        handles += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave, always_call=True)]
    try:
        yield used
    finally:
        for handle in handles:
            handle.remove()


def other_kernels(device: str, dtype: torch.dtype, head_dim: int) -> tuple[AttentionKernel, ...]:
    """The kernels that run here and round differently from the one that torch chooses by itself.

    Each is run on noise to find out.

    Raises:
        VqError: there is none.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (1, PROBE_HEADS, PROBE_TOKENS, head_dim)
    query, key, value = (torch.randn(shape, generator=generator).to(device, dtype) for _ in range(3))
    inputs = (query, key, value)
    own, expected = _run(inputs, ())
    others: list[AttentionKernel] = []
    for kernel in BACKENDS:
        try:
            ran, result = _run(inputs, (kernel,))
        except RuntimeError:  # torch: no available kernel
            continue
        if ran not in (own, *others) and not torch.equal(result, expected):
            others.append(ran)
    if not others:
        raise VqError(
            f"No attention kernel but {own} runs on {device} in {str(dtype).removeprefix('torch.')}: "
            "leave the variant `floor` out."
        )
    return tuple(others)


@torch.no_grad()
def _run(inputs: tuple[Tensor, Tensor, Tensor], kernels: Sequence[AttentionKernel]) -> tuple[AttentionKernel, Tensor]:
    used: set[AttentionKernel] = set()
    with _Attention(kernels, used):
        result = F.scaled_dot_product_attention(*inputs)
    (kernel,) = used
    return kernel, result


def _kernel_of(operators: Iterable[str]) -> AttentionKernel:
    """The kernel, from the operators that an attention was made of; only fused ones have one of their own."""
    for name in operators:
        for kernel in BACKENDS:
            if name.startswith(f"aten::_scaled_dot_product_{kernel}_attention"):
                return kernel
    return "math"
