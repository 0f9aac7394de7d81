from collections.abc import Callable

import diffusers.models.attention_dispatch as dispatch
import pytest
import torch

from vq_infer.attention import flash3


def test_it_must_be_installed(pretend_gpu: Callable[[int, int], torch.device], monkeypatch: pytest.MonkeyPatch) -> None:
    device = pretend_gpu(9, 0)
    monkeypatch.setattr("diffusers.utils.is_flash_attn_3_available", lambda: False)
    assert "FlashAttention-3 is not installed" in str(flash3.unavailable(device))
    monkeypatch.setattr("diffusers.utils.is_flash_attn_3_available", lambda: True)
    assert flash3.unavailable(device) is None


def test_diffusers_knows_the_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed it is called with what diffusers passes on; here its function stands in."""
    q = torch.randn(1, 3, 2, 8)
    monkeypatch.setattr(dispatch, "_wrapped_flash_attn_3", lambda q, k, v, **settings: (v * 2, None))
    assert torch.equal(flash3.attend(q, q, q), q * 2)
