import numpy as np
import torch

from vq_core.statistics import sum as value_sum


def test_it_adds_values_with_their_sign() -> None:
    x = torch.tensor([[1.0, 2.0, 0.0], [-5.0, -2.0, 0.0], [3.0, 0.0, 0.0]])
    assert value_sum.reduce(x).tolist() == [-1.0, 0.0, 0.0]


def test_many_tokens_in_bfloat16_equal_numpy_in_fp64() -> None:
    tokens = torch.randn(3000, 16, generator=torch.Generator().manual_seed(0)).add(0.3).bfloat16()
    x = tokens.double().numpy()
    ours = value_sum.reduce(tokens).double().numpy()
    assert np.all(np.abs(ours - x.sum(axis=0)) <= 1e-6 * np.abs(x).sum(axis=0))


def test_merging() -> None:
    a, b = torch.tensor([1.0, 4.0], dtype=value_sum.DTYPE), torch.tensor([2.0, 3.0], dtype=value_sum.DTYPE)
    assert value_sum.merge(a, b).tolist() == [3.0, 7.0]


def test_it_is_kept_in_fp64() -> None:
    large = torch.tensor([2.0**25], dtype=value_sum.DTYPE)
    assert value_sum.merge(large, torch.ones(1, dtype=value_sum.DTYPE)).item() == 2**25 + 1
