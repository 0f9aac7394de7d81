import pytest
import torch

from vq_core.errors import VqError
from vq_core.runtime.device import resolve_device


def test_takes_what_is_asked_for() -> None:
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize(("cuda", "expected"), [(True, "cuda"), (False, "cpu")])
def test_prefers_cuda(monkeypatch: pytest.MonkeyPatch, cuda: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert resolve_device(None) == expected


@pytest.mark.parametrize("device", ["tpu", "mps", "cuda:x", ""])
def test_refuses_an_unknown_device(device: str) -> None:
    with pytest.raises(VqError, match=f"`{device}` is not a device that is used here: choose cpu, cuda or cuda:N"):
        resolve_device(device)


@pytest.mark.parametrize(("count", "device"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2")])
def test_refuses_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, count: int, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(VqError, match=rf"`{device}` is not in this machine \({count} CUDA devices\): use --device cpu"):
        resolve_device(device)
