"""H and its factor against the literal formulas in fp64."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vq_algos.layer import hessian as hessian_module
from vq_algos.layer.hessian import Hessian
from vq_algos.layer.inputs import LinearInputs

MakeInputs = Callable[..., LinearInputs]


def _literal(x_hat: Tensor, weight: Tensor) -> Tensor:
    """H = Σ w x̂ᵀx̂, one token after another."""
    total = torch.zeros(x_hat.shape[1], x_hat.shape[1], dtype=torch.float64)
    for row, w in zip(x_hat.double(), weight.double(), strict=True):
        total += w * torch.outer(row, row)
    return total


def _restored(factor: hessian_module.Factor, h: Tensor) -> Tensor:
    """U·Uᵀ in the input's order, from the couplings and the diagonal that H gives them."""
    unit = factor.couplings.double() + torch.eye(len(h), dtype=torch.float64)
    # H = V·D·Vᵀ with V unit upper triangular, so V⁻¹·H·V⁻ᵀ is the diagonal D = diag(U_jj²).
    inner = torch.linalg.solve(unit, torch.linalg.solve(unit, h[factor.order][:, factor.order]).T)
    assert (inner - inner.diagonal().diag()).abs().max() < 1e-4 * inner.diagonal().max()
    back = torch.argsort(factor.order)
    return (unit @ inner.diagonal().diag() @ unit.T)[back][:, back]


@given(st.integers(1, 40), st.integers(1, 24), st.sampled_from([0.01, 0.3, 1.0]), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_the_factor_is_that_of_the_damped_hessian(tokens: int, channels: int, damp: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x_hat, weight = torch.randn(tokens, channels, generator=generator), torch.rand(tokens, generator=generator) + 0.1
    h = _literal(x_hat, weight)
    damped = h + damp * h.diagonal().mean() * torch.eye(channels, dtype=torch.float64)
    factor = Hessian(x_hat, weight).factor(damp)
    assert factor.damp == damp
    assert torch.equal(factor.couplings, factor.couplings.triu(1))
    torch.testing.assert_close(_restored(factor, damped), damped, rtol=1e-4, atol=1e-4 * float(damped.max()))


def test_columns_are_ordered_by_descending_energy() -> None:
    x_hat = torch.randn(50, 5) * torch.tensor([1.0, 30.0, 0.0, 3.0, 10.0])
    assert Hessian(x_hat, torch.ones(50)).factor(0.1).order.tolist() == [1, 4, 3, 0, 2]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_the_factor_does_not_depend_on_how_it_is_cut(
    size: int, make_inputs: MakeInputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit = make_inputs(24).fit
    whole = Hessian(fit.x_hat, fit.weight).factor(0.1)
    monkeypatch.setattr(hessian_module, "COLUMNS_AT_ONCE", size)
    monkeypatch.setattr(hessian_module, "TOKENS_AT_ONCE", 10 * size)
    monkeypatch.setattr(hessian_module, "ROWS_AT_ONCE", size)
    cut = Hessian(fit.x_hat, fit.weight).factor(0.1)
    torch.testing.assert_close(cut.couplings, whole.couplings, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("tokens", "size"), [(8, 1024), (64, 1024), (64, 1), (64, 7), (64, 16)])
def test_errors_are_the_literal_ones_with_few_tokens_and_with_many(
    tokens: int, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hessian_module, "ROWS_AT_ONCE", size)
    x_hat, weight, difference = torch.randn(tokens, 16), torch.rand(tokens) + 0.1, torch.randn(5, 16)
    x_hat[:, 3] = 0
    expected = torch.stack([d @ _literal(x_hat, weight) @ d for d in difference.double()])
    errors = Hessian(x_hat, weight).errors(difference)
    torch.testing.assert_close(errors.double(), expected, rtol=1e-4, atol=0)


def test_a_channel_that_was_never_seen_is_coupled_to_none() -> None:
    x_hat = torch.randn(40, 6)
    x_hat[:, [1, 4]] = 0
    factor = Hessian(x_hat, torch.ones(40)).factor(0.01)
    assert set(factor.order[-2:].tolist()) == {1, 4}
    assert not factor.couplings[:, -2:].any()
    seen = [0, 2, 3, 5]
    alone = Hessian(x_hat[:, seen], torch.ones(40)).factor(0.01)
    torch.testing.assert_close(factor.couplings[:4, :4], alone.couplings)
    assert not Hessian(torch.zeros(8, 5), torch.ones(8)).factor(0.01).couplings.any()


def test_a_singular_hessian_raises_the_damping_until_it_is_positive_definite() -> None:
    x_hat = torch.ones(3, 32) * torch.linspace(1, 2, 32)  # rank one
    factor = Hessian(x_hat, torch.ones(3)).factor(1e-18)
    assert 1e-18 < factor.damp < 1e-4
    assert torch.isfinite(factor.couplings).all()
