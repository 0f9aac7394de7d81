import numpy as np
import torch

from vq_core.statistics import absmax


def test_it_is_the_largest_magnitude() -> None:
    x = torch.tensor([[1.0, 2.0, 0.0], [-5.0, -2.0, 0.0], [3.0, 0.0, 0.0]])
    assert absmax.reduce(x).tolist() == [5.0, 2.0, 0.0]


def test_many_tokens_in_bfloat16_equal_numpy_in_fp64() -> None:
    tokens = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0)).add(0.3).bfloat16()
    x = tokens.double().numpy()
    ours = absmax.reduce(tokens).double().numpy()
    np.testing.assert_array_equal(ours, np.abs(x).max(axis=0))


def test_merging() -> None:
    a, b = torch.tensor([1.0, 4.0], dtype=absmax.DTYPE), torch.tensor([2.0, 3.0], dtype=absmax.DTYPE)
    assert absmax.merge(a, b).tolist() == [2.0, 4.0]
