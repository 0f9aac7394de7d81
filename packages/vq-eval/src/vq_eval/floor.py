"""The floor: full precision once more, with another attention kernel. What separates the two is no quantization."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def other_attention(device: str) -> Iterator[None]:
    """Attend with another kernel than the default within the block.

    On CUDA that is the memory-efficient kernel in place of FlashAttention, elsewhere the plain formula, which holds
    the whole matrix of scores and is out of the question for a large video.
    """
    on_cuda = torch.device(device).type == "cuda"
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION if on_cuda else SDPBackend.MATH):
        yield
