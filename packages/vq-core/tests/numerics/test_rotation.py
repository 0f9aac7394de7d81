"""The rotation, held against the Kronecker powers of H₄ written out in fp64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vq_core.numerics.rotation import fits, largest_group, rotate

H4 = torch.tensor([[1, 1, 1, -1], [1, 1, -1, 1], [1, -1, 1, 1], [-1, 1, 1, 1]], dtype=torch.float64) / 2


def hadamard(size: int) -> Tensor:
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while len(matrix) < size:
        matrix = torch.kron(matrix, H4)
    return matrix


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(st.sampled_from([1, 4, 16, 64, 256]), st.integers(1, 3), st.integers(0, 4), st.integers(0, 2**31))
@settings(max_examples=30, deadline=None)
def test_every_group_is_multiplied_by_the_kronecker_power(group: int, groups: int, rows: int, seed: int) -> None:
    x = random(rows, groups * group, seed=seed)
    expected = (x.double().reshape(-1, group) @ hadamard(group)).reshape(x.shape)
    torch.testing.assert_close(rotate(x, group), expected.float(), rtol=0, atol=2e-6)
    torch.testing.assert_close(rotate(rotate(x, group), group), x, rtol=0, atol=4e-6)


def test_a_product_stays_if_both_sides_are_rotated() -> None:
    x, weight = random(8, 512).double(), random(16, 512, seed=1)
    product = rotate(x, 256).double() @ rotate(weight, 256).double().T
    torch.testing.assert_close(product, x @ weight.double().T, rtol=0, atol=1e-4)


def test_no_channel_takes_what_all_have_in_common() -> None:
    rotated = rotate(torch.ones(1, 256), 256)
    assert torch.equal(rotated.abs(), torch.ones(1, 256))


def test_a_row_does_not_depend_on_the_others() -> None:
    x = random(700, 512)  # more than one tile
    together = rotate(x, 64)
    for row in (0, 511, 512, 699):
        assert torch.equal(rotate(x[row], 64), together[row])


def test_the_result_is_fp32_of_the_same_shape() -> None:
    x = random(2, 3, 16).bfloat16()
    assert rotate(x, 16).dtype == torch.float32
    assert rotate(x, 16).shape == x.shape
    assert torch.equal(rotate(x, 1), x.float())


@pytest.mark.parametrize("group", [0, 2, 8, 48, 256])
def test_groups_that_do_not_fit_are_refused(group: int) -> None:
    assert not fits(group, 96)
    with pytest.raises(ValueError, match=f"groups of {group} do not fit 96 channels"):
        rotate(torch.zeros(2, 96), group)


def test_the_largest_group_that_divides() -> None:
    found = {width: largest_group(width, 256) for width in (5120, 13824, 14336, 1536, 640, 80, 6)}
    assert found == {5120: 256, 13824: 256, 14336: 256, 1536: 256, 640: 64, 80: 16, 6: 1}
    assert largest_group(5120, 64) == 64
    assert largest_group(5120, 1) == 1
