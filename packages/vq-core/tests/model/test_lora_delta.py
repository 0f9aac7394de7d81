"""ΔW is the literal formula's, entry by entry, and its shape is known before anything is read."""

from itertools import product
from math import prod

import pytest
import torch
from torch import Tensor

from vq_core.model.lora_delta import METHODS, Method, magnitude_axis, scale_to_magnitude
from vq_core.model.lora_keys import LoraPart as P

LOW_RANK, LOHA, LOKR = METHODS
ROWS, COLUMNS, RANK, KERNEL = 6, 8, 3, (1, 2, 2)


def random(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def tucker(core: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Σ_ij T[i, j, …] A[i, p] B[j, r], a loop."""
    made = torch.zeros(a.shape[1], b.shape[1], *core.shape[2:], dtype=core.dtype)
    for p, r, i, j in product(range(a.shape[1]), range(b.shape[1]), range(a.shape[0]), range(b.shape[0])):
        made[p, r] += core[i, j] * a[i, p] * b[j, r]
    return made


def test_a_low_rank_pair_of_a_linear_and_of_a_convolution() -> None:
    up, down = random(ROWS, RANK), random(RANK, COLUMNS)
    assert torch.equal(LOW_RANK.multiply({P.UP: up, P.DOWN: down}), up @ down)
    up, down = random(ROWS, RANK, 1, 1, 1), random(RANK, COLUMNS, *KERNEL)
    expected = torch.einsum("or,ridhw->oidhw", up[..., 0, 0, 0], down).flatten(1)
    assert torch.allclose(LOW_RANK.multiply({P.UP: up, P.DOWN: down}), expected)


def test_a_pair_with_a_convolution_in_the_middle() -> None:
    """B·M·A is what three convolutions one after another compute."""
    down, mid, up = random(RANK, COLUMNS, 1, 1, 1), random(RANK, RANK, *KERNEL), random(ROWS, RANK, 1, 1, 1)
    delta = LOW_RANK.multiply({P.DOWN: down, P.MID: mid, P.UP: up}).reshape(ROWS, COLUMNS, *KERNEL)
    read = random(1, COLUMNS, 3, 4, 4)
    conv = torch.nn.functional.conv3d
    assert torch.allclose(conv(read, delta), conv(conv(conv(read, down), mid), up))


def test_loha_is_hadamard_s_product_of_two_pairs() -> None:
    a1, b1, a2, b2 = random(ROWS, RANK), random(RANK, COLUMNS), random(ROWS, RANK), random(RANK, COLUMNS)
    delta = LOHA.multiply({P.HADA_W1_A: a1, P.HADA_W1_B: b1, P.HADA_W2_A: a2, P.HADA_W2_B: b2})
    assert torch.equal(delta, torch.mul(a1 @ b1, a2 @ b2))


def test_loha_of_a_convolution_with_cores() -> None:
    a1, b1, a2, b2 = random(RANK, ROWS), random(RANK, COLUMNS), random(RANK, ROWS), random(RANK, COLUMNS)
    t1, t2 = random(RANK, RANK, *KERNEL), random(RANK, RANK, *KERNEL)
    factors = {P.HADA_W1_A: a1, P.HADA_W1_B: b1, P.HADA_T1: t1, P.HADA_W2_A: a2, P.HADA_W2_B: b2, P.HADA_T2: t2}
    assert torch.allclose(LOHA.multiply(factors), (tucker(t1, a1, b1) * tucker(t2, a2, b2)).flatten(1))


@pytest.mark.parametrize("kernel", [(), KERNEL])
@pytest.mark.parametrize("first", ["whole", "pair"])
@pytest.mark.parametrize("second", ["whole", "pair", "tucker"])
def test_lokr_is_kronecker_s_product_whatever_its_factors_are_made_of(
    first: str, second: str, kernel: tuple[int, ...]
) -> None:
    factors: dict[P, Tensor] = {}
    if first == "whole":
        factors |= {P.LOKR_W1: (w1 := random(2, 4))}
    else:
        a, b = random(2, RANK), random(RANK, 4)
        factors |= {P.LOKR_W1_A: a, P.LOKR_W1_B: b}
        w1 = a @ b
    if second == "whole":
        factors |= {P.LOKR_W2: (w2 := random(3, 2, *kernel))}
    elif second == "pair":
        a, b = random(3, RANK), random(RANK, 2 * prod(kernel))
        factors |= {P.LOKR_W2_A: a, P.LOKR_W2_B: b}
        w2 = (a @ b).reshape(3, 2, *kernel)
    else:
        a, b, core = random(RANK, 3), random(RANK, 2), random(RANK, RANK, *kernel)
        factors |= {P.LOKR_W2_A: a, P.LOKR_W2_B: b, P.LOKR_T2: core}
        w2 = tucker(core, a, b)
    expected = torch.kron(w1.reshape(2, 4, *(1 for _ in kernel)), w2)
    assert expected.shape == (ROWS, COLUMNS, *kernel)
    assert torch.allclose(LOKR.multiply(factors), expected.flatten(1))
    shapes = {part: tuple(it.shape) for part, it in factors.items()}
    assert LOKR.shape(shapes) == (ROWS, COLUMNS * prod(kernel))
    assert LOKR.rank(shapes) == (None if first == second == "whole" else RANK)


def fitting(method: Method, form: frozenset[P]) -> dict[P, tuple[int, ...]]:
    """Shapes of the factors of `form`, which can be multiplied."""
    cored = not form.isdisjoint({P.HADA_T1, P.LOKR_T2})
    return {
        part: (RANK, RANK, *KERNEL) if part in (P.MID, P.HADA_T1, P.HADA_T2, P.LOKR_T2)
        else (RANK, 5) if part in (P.DOWN,) or part.value.endswith("_b") or (cored and part.value.endswith("2_a"))
        or (cored and method is LOHA)
        else (5, RANK)
        for part in form
    }  # fmt: skip


FORMS = [(method, form) for method in METHODS for form in method.forms]
NAMES = [f"{method.name} {sorted(part.value for part in form)}" for method, form in FORMS]


@pytest.mark.parametrize(("method", "form"), FORMS, ids=NAMES)
def test_the_shape_is_that_of_the_product_and_none_where_there_is_no_product(
    method: Method, form: frozenset[P]
) -> None:
    shapes = fitting(method, form)
    for part in (None, *form):
        tried = shapes if part is None else shapes | {part: tuple(size + 1 for size in shapes[part])}
        try:
            made = method.multiply({it: random(*shape) for it, shape in tried.items()})
        except RuntimeError:
            assert part is not None
            assert method.shape(tried) is None
        else:
            assert method.shape(tried) == tuple(made.shape)
    for part in form:
        assert method.shape(shapes | {part: (RANK,)}) in (None, (0, 0))


@pytest.mark.parametrize(
    ("method", "parts", "lacking"),
    [
        (LOW_RANK, {P.UP}, [P.DOWN]),
        (LOW_RANK, {P.MID}, [P.DOWN, P.UP]),
        (LOHA, {P.HADA_W1_A, P.HADA_W1_B, P.HADA_W2_A, P.HADA_W2_B, P.HADA_T1}, [P.HADA_T2]),
        (LOKR, {P.LOKR_W1_A}, [P.LOKR_W1_B, P.LOKR_W2]),
        (LOKR, {P.LOKR_W1, P.LOKR_T2}, [P.LOKR_W2_A, P.LOKR_W2_B]),
        (LOKR, {P.LOKR_W1, P.LOKR_W2}, []),
        (LOKR, {P.LOKR_W1, P.LOKR_W1_A, P.LOKR_W2}, None),
    ],
)
def test_what_makes_factors_whole(method: Method, parts: set[P], lacking: list[P] | None) -> None:
    assert method.lacks(parts) == lacking


CONV = (ROWS, COLUMNS, *KERNEL)


@pytest.mark.parametrize(
    ("part", "magnitude", "weight", "axis"),
    [
        (P.MAGNITUDE, (6,), (6, 8), 0),
        (P.MAGNITUDE, (1, 6, 1, 1, 1), CONV, 0),
        (P.MAGNITUDE, (1, 8, 1, 1, 1), CONV, None),
        (P.MAGNITUDE, (8,), (6, 8), None),
        (P.DORA_SCALE, (6,), (6, 8), 0),
        (P.DORA_SCALE, (6, 1), (6, 8), 0),
        (P.DORA_SCALE, (1, 8), (6, 8), 1),
        (P.DORA_SCALE, (6, 1), (6, 6), 0),
        (P.DORA_SCALE, (1, 6), (6, 6), 1),
        (P.DORA_SCALE, (1, 8, 1, 1, 1), CONV, 1),
        (P.DORA_SCALE, (6, 1, 1, 1, 1), CONV, 0),
        (P.DORA_SCALE, (6, 8), (6, 8), None),
        (P.DORA_SCALE, (8,), (6, 8), None),
        (P.DORA_SCALE, (), (6, 8), None),
        (P.DORA_SCALE, (6,), (6,), None),
    ],
)
def test_the_shape_of_magnitudes_tells_their_axis(
    part: P, magnitude: tuple[int, ...], weight: tuple[int, ...], axis: int | None
) -> None:
    assert magnitude_axis(part, magnitude, weight) == axis


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("shape", [(ROWS, COLUMNS), CONV])
def test_dora_gives_each_channel_its_magnitude(shape: tuple[int, ...], axis: int) -> None:
    weight, magnitude = random(*shape), random(shape[axis]).abs()
    scaled = weight.clone()
    scale_to_magnitude(scaled, magnitude, axis)
    for channel in range(shape[axis]):
        before, after = weight.select(axis, channel), scaled.select(axis, channel)
        assert torch.allclose(after, magnitude[channel] * before / before.square().sum().sqrt())


def test_a_channel_of_zeros_stays() -> None:
    weight = torch.zeros(2, 3)
    scale_to_magnitude(weight, torch.ones(2), 0)
    assert torch.equal(weight, torch.zeros(2, 3))
