"""The precision of matrix products, set for a while."""

import pytest
import torch

from vq_algos.rounding.full_fp32 import full_fp32


def test_it_is_full_inside_and_what_it_was_afterwards() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        with pytest.raises(KeyboardInterrupt), full_fp32():
            assert torch.get_float32_matmul_precision() == "highest"
            raise KeyboardInterrupt
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
