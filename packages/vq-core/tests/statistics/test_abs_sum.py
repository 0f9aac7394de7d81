import numpy as np
import torch

from vq_core.statistics import abs_sum


def test_many_tokens_in_bfloat16_equal_numpy_in_fp64() -> None:
    tokens = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0)).add(0.3).bfloat16()
    x = tokens.double().numpy()
    ours = abs_sum.reduce(tokens).double().numpy()
    np.testing.assert_allclose(ours, np.abs(x).sum(axis=0), rtol=1e-6)


def test_it_is_kept_in_fp64() -> None:
    large = torch.tensor([2.0**25], dtype=abs_sum.DTYPE)
    assert abs_sum.merge(large, torch.ones(1, dtype=abs_sum.DTYPE)).item() == 2**25 + 1
