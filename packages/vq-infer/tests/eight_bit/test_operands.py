import math

import pytest
import torch

from vq_core.errors import VqError
from vq_infer.eight_bit.operands import Operands, key_order, logit_factor, padded, padded_head_dim


def test_tokens_are_padded_to_whole_blocks() -> None:
    assert [padded(tokens) for tokens in (1, 128, 129)] == [128, 128, 256]
    assert padded(1, blocks=2) == 256


def test_heads_are_padded_to_the_next_size() -> None:
    assert [padded_head_dim(dim) for dim in (16, 64, 65, 128)] == [64, 64, 128, 128]


def test_wide_heads_are_refused() -> None:
    with pytest.raises(VqError, match="heads have 160 channels and at most 128 are supported: use sdpa or cudnn."):
        padded_head_dim(160)


def test_the_factor_turns_products_of_rotated_rows_into_exponents_of_two() -> None:
    logit, product = 3.0, 3.0 * math.sqrt(96) * 128
    assert 2 ** (product * logit_factor(96, 128)) == pytest.approx(math.exp(logit))


def test_the_order_of_keys_is_that_of_the_instructions() -> None:
    """PTX, m64nNk32: thread t of four holds sums of columns 2t, 2t+1, 8+2t, 9+2t, and factors of columns 4t to 4t+3."""
    held_sums = [[2 * t, 2 * t + 1, 8 + 2 * t, 9 + 2 * t] for t in range(4)]
    assert key_order(torch.device("cpu")).view(4, 4).tolist() == held_sums


def test_memory_for_operands_is_padded() -> None:
    operands = Operands.empty(torch.empty(2, 130, 3, 40), keys=10)
    assert operands.q.shape == (6, 256, 64)
    assert operands.k.shape == (6, 256, 64)
    assert operands.v.shape == (6, 64, 256)
    assert operands.k_scale.shape == (6, 2)
