import numpy as np
import torch

from vq_core.statistics import absmax


def test_many_tokens_in_bfloat16_equal_numpy_in_fp64() -> None:
    tokens = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0)).add(0.3).bfloat16()
    x = tokens.double().numpy()
    ours = absmax.reduce(tokens).double().numpy()
    np.testing.assert_array_equal(ours, np.abs(x).max(axis=0))
