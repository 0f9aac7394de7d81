from collections.abc import Callable

import diffusers.models.attention_dispatch as dispatch
import pytest
import torch

from vq_infer.attention import sage


def test_it_must_be_installed_and_not_old(
    pretend_gpu: Callable[[int, int], torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    device = pretend_gpu(8, 9)
    monkeypatch.setattr("diffusers.utils.is_sageattention_available", lambda: True)
    monkeypatch.setattr("diffusers.utils.is_sageattention_version", lambda operation, version: False)
    assert "SageAttention 2.1.1 or newer is not installed" in str(sage.unavailable(device))
    monkeypatch.setattr("diffusers.utils.is_sageattention_version", lambda operation, version: True)
    assert sage.unavailable(device) is None


def test_the_version_is_what_diffusers_asks_for() -> None:
    assert dispatch._REQUIRED_SAGE_VERSION == sage.VERSION


def test_diffusers_knows_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed it is called with what diffusers passes on; here its function stands in."""
    q = torch.randn(1, 3, 2, 8)
    monkeypatch.setattr(dispatch, "sageattn", lambda q, k, v, **settings: v * 2)
    assert torch.equal(sage.attend(q, q, q), q * 2)
