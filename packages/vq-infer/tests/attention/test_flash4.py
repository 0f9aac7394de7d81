import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from vq_core.errors import VqError
from vq_infer.attention import FULL_PRECISION, flash4, load_attention
from vq_infer.attention_choice import Fastest, relative_error

CUDA = torch.device("cuda")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """A stand-in for the package, which is 100 MB with what it needs."""
    module = ModuleType("flash_attn.cute")
    monkeypatch.setattr(flash4, "version", lambda package: "4.0.0")
    monkeypatch.setenv("VQ_CACHE", str(tmp_path))
    for name in ("FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED", "FLASH_ATTENTION_CUTE_DSL_CACHE_DIR"):
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    monkeypatch.setitem(sys.modules, "flash_attn", ModuleType("flash_attn"))
    monkeypatch.setitem(sys.modules, "flash_attn.cute", module)
    return module


def test_it_must_be_installed_with_what_it_needs(
    pretend_gpu: Callable[[int, int], torch.device], installed: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    device = pretend_gpu(9, 0)
    assert flash4.unavailable(device) is None
    monkeypatch.setitem(sys.modules, "flash_attn.cute", None)
    assert "is installed but does not start (" in str(flash4.unavailable(device))
    monkeypatch.setattr(flash4, "PACKAGE", "flash-attn-that-is-not-here")
    monkeypatch.setattr(flash4, "version", version)
    assert "FlashAttention-4 is not installed (`pip install" in str(flash4.unavailable(device))


def test_what_it_compiles_is_kept(
    pretend_gpu: Callable[[int, int], torch.device],
    installed: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setenv("FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED", "0")
    flash4.unavailable(pretend_gpu(9, 0))
    assert os.environ["FLASH_ATTENTION_CUTE_DSL_CACHE_ENABLED"] == "0"  # what the user says
    assert os.environ["FLASH_ATTENTION_CUTE_DSL_CACHE_DIR"] == str(tmp_path / "flash-attention-4")


@pytest.mark.parametrize("with_sums", [True, False])
def test_tokens_come_before_heads(installed: ModuleType, with_sums: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def flash_attn_func(q: Tensor, k: Tensor, v: Tensor) -> Tensor | tuple[Tensor, None]:
        assert (q.shape, k.shape, v.shape) == ((1, 5, 2, 8), (1, 3, 2, 8), (1, 3, 2, 8))
        return (q * 2, None) if with_sums else q * 2

    monkeypatch.setattr(installed, "flash_attn_func", flash_attn_func, raising=False)
    q, k = torch.randn(1, 5, 2, 8), torch.randn(1, 3, 2, 8)
    assert torch.equal(flash4.attend(q, k, k), q * 2)


def test_auto_leaves_it_out_where_it_has_no_kernel(installed: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def flash_attn_func(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        raise AssertionError("head_dim 160")

    monkeypatch.setattr(installed, "flash_attn_func", flash_attn_func, raising=False)
    q = torch.randn(1, 5, 2, 160)
    with pytest.raises(VqError, match="does not support heads of 160 channels in torch.float32: head_dim 160"):
        flash4.attend(q, q, q)
    auto = Fastest((load_attention("flash4"), load_attention("sdpa")), FULL_PRECISION)
    assert torch.equal(auto.attend(q, q, q), load_attention("sdpa").attend(q, q, q))


@pytest.mark.gpu
@pytest.mark.parametrize(("queries", "keys", "head_dim"), [(1000, 1000, 128), (77, 257, 128), (130, 512, 64)])
def test_it_is_attention(queries: int, keys: int, head_dim: int) -> None:
    reason = flash4.unavailable(CUDA)
    if reason is not None:
        pytest.skip(reason)
    generator = torch.Generator("cuda").manual_seed(0)
    q, k, v = (
        torch.randn(1, count, 3, head_dim, generator=generator, device=CUDA, dtype=torch.bfloat16)
        for count in (queries, keys, keys)
    )
    strided = torch.cat([v, v], dim=2)[:, :, 3:]  # as the engine hands it v: a part of a longer row
    assert relative_error(flash4, q, k, strided) < flash4.ERROR
