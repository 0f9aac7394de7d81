"""8-bit attention in torch against attention in fp64, and each of its measures against doing without."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from vq_infer.eight_bit import reference
from vq_infer.eight_bit.operands import key_order

Make = Callable[..., tuple[Tensor, Tensor, Tensor]]
Exact = Callable[[Tensor, Tensor, Tensor], Tensor]
Error = Callable[[Tensor, Tensor], float]


@pytest.mark.parametrize(("queries", "keys", "dim"), [(1, 1, 64), (130, 257, 64), (64, 300, 128), (50, 100, 24)])
def test_against_fp64(
    queries: int, keys: int, dim: int, make_inputs: Make, exact_attention: Exact, relative_error: Error
) -> None:
    inputs = make_inputs(queries, keys, dim)
    out = reference.attend(*inputs)
    assert out.shape == inputs[0].shape
    assert relative_error(out, exact_attention(*inputs)) < 0.04


@pytest.mark.parametrize("spread", [0.5, 2.0, 5.0], ids=["flat", "middle", "peaked"])
def test_it_is_more_exact_than_int8_by_token_and_block_without_rotation(
    spread: float, make_inputs: Make, exact_attention: Exact, relative_error: Error
) -> None:
    q, k, v = make_inputs(128, 512, 128, spread=spread)
    exact = exact_attention(q, k, v)
    centred = k - k.mean(1, keepdim=True)
    plain = exact_attention(_rounded(q, (3,)), _blockwise(centred), _fp8_channels(v))
    assert relative_error(reference.attend(q, k, v), exact) < relative_error(plain, exact)


def test_codes_hold_the_inputs(make_inputs: Make, relative_error: Error) -> None:
    q, k, v = make_inputs(200, 300, 64)
    operands = reference.quantize(q, k, v)
    rotation = reference.hadamard(64, q.device).double() / 8
    heads_first = [x.double().transpose(1, 2).flatten(0, 1) for x in (q, k, v)]
    unrotated_q = operands.q[:, :200].double() @ rotation.t()
    unrotated_k = (
        operands.k[:, :300].double() @ rotation.t() * operands.k_scale.repeat_interleave(128, 1)[:, :300, None]
    )
    directions = [
        torch.nn.functional.cosine_similarity(a, b, dim=-1).min()
        for a, b in (
            (unrotated_q, heads_first[0]),
            (unrotated_k, heads_first[1] - heads_first[1].mean(1, keepdim=True)),
        )
    ]
    assert min(directions) > 0.999
    in_order = torch.empty_like(operands.v.float())
    in_order.unflatten(2, (-1, 16))[..., key_order(q.device)] = operands.v.float().unflatten(2, (-1, 16))
    restored = in_order.transpose(1, 2)[:, :300] * operands.v_scale[:, None] + operands.v_mean[:, None]
    assert relative_error(restored, heads_first[2]) < 0.03


def test_what_rounding_loses_on_average_is_given_back(make_inputs: Make, relative_error: Error) -> None:
    _, _, v = make_inputs(1, 500, 64)
    q = torch.zeros(2, 1, 2, 64)
    assert relative_error(reference.attend(q, v, v), v.mean(1, keepdim=True)) < 1e-5


def test_a_constant_in_k_changes_nothing(make_inputs: Make, relative_error: Error) -> None:
    q, k, v = make_inputs(40, 200, 64)
    assert relative_error(reference.attend(q, k + 50, v), reference.attend(q, k, v)) < 2e-3


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
