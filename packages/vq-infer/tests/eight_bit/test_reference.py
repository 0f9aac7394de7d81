"""8-bit attention in torch against attention in fp64, and each of its measures against doing without."""

from typing import Any

import pytest
import torch
from torch import Tensor

from vq_infer.eight_bit import reference
from vq_infer.eight_bit.operands import key_order


def relative(out: Tensor, expected: Tensor) -> float:
    return float((out.double() - expected.double()).norm() / expected.double().norm())


@pytest.mark.parametrize(("queries", "keys", "dim"), [(1, 1, 64), (130, 257, 64), (64, 300, 128), (50, 100, 24)])
def test_against_fp64(queries: int, keys: int, dim: int, hard: Any) -> None:
    inputs = hard(queries, keys, dim)
    out = reference.attend(*inputs)
    assert out.shape == inputs.q.shape
    assert inputs.error(out) < 0.04


@pytest.mark.parametrize("spread", [0.5, 2.0, 5.0], ids=["flat", "middle", "peaked"])
def test_it_is_more_exact_than_int8_by_token_and_block_without_rotation(spread: float, hard: Any) -> None:
    inputs = hard(128, 512, 128, spread=spread)
    q, k, v = inputs
    plain = _rounded(q, (3,)), _blockwise(k - k.mean(1, keepdim=True)), _fp8_channels(v)
    q, k, v = (x.double() for x in plain)
    weights = torch.softmax(torch.einsum("bqhd,bkhd->bhqk", q, k) * 128**-0.5, dim=-1)
    assert inputs.error(reference.attend(*inputs)) < inputs.error(torch.einsum("bhqk,bkhd->bqhd", weights, v))


def test_codes_hold_the_inputs(hard: Any) -> None:
    inputs = hard(200, 300, 64)
    operands = reference.quantize(*inputs)
    rotation = reference.hadamard(64, torch.device("cpu")).double() / 8
    q, k, v = (x.double().transpose(1, 2).flatten(0, 1) for x in inputs)
    unrotated_q = operands.q[:, :200].double() @ rotation.t()
    scales = operands.k_scale.repeat_interleave(128, 1)[:, :300, None]
    unrotated_k = operands.k[:, :300].double() @ rotation.t() * scales
    for a, b in ((unrotated_q, q), (unrotated_k, k - k.mean(1, keepdim=True))):
        assert torch.nn.functional.cosine_similarity(a, b, dim=-1).min() > 0.999
    in_order = torch.empty_like(operands.v.float())
    in_order.unflatten(2, (-1, 16))[..., key_order(q.device)] = operands.v.float().unflatten(2, (-1, 16))
    restored = in_order.transpose(1, 2)[:, :300] * operands.v_scale[:, None] + operands.v_mean[:, None]
    assert relative(restored, v) < 0.03


def test_what_rounding_loses_on_average_is_given_back(hard: Any) -> None:
    v = hard(1, 500, 64).v
    assert relative(reference.attend(torch.zeros(2, 1, 2, 64), v, v), v.mean(1, keepdim=True)) < 1e-5


def test_a_constant_in_k_changes_nothing(hard: Any) -> None:
    q, k, v = hard(40, 200, 64)
    assert relative(reference.attend(q, k + 50, v), reference.attend(q, k, v)) < 2e-3


def test_zeros_are_attended_to() -> None:
    zeros = torch.zeros(1, 5, 1, 64)
    assert torch.equal(reference.attend(zeros, zeros, zeros), zeros)


def test_the_rotation_keeps_products() -> None:
    matrix = reference.hadamard(64, torch.device("cpu"))
    assert torch.equal(matrix @ matrix.t(), 64 * torch.eye(64))


def _rounded(x: Tensor, over: tuple[int, ...]) -> Tensor:
    scale = x.abs().amax(over, keepdim=True) / 127
    return (x / scale).round() * scale


def _blockwise(k: Tensor) -> Tensor:
    return _rounded(k.unflatten(1, (-1, 64)), (2, 4)).flatten(1, 2)


def _fp8_channels(v: Tensor) -> Tensor:
    scale = v.abs().amax(1, keepdim=True) / 448
    return (v / scale).to(torch.float8_e4m3fn).float() * scale
