import hashlib
from pathlib import Path

import pytest
import torch

from vq_eval.metrics import Clip, lpips


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torch keeps weights that it has downloaded, empty."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    monkeypatch.setattr(lpips, "find_spec", lambda _: "there")
    return tmp_path / "checkpoints"


@pytest.mark.usefixtures("random_alexnet")
def test_equal_frames_have_none(large: list[Clip]) -> None:
    assert lpips.measure(large[0], large[0]) == [0.0] * 3


def test_weights_that_are_not_here_are_named_with_their_place(hub: Path) -> None:
    place = hub / "alexnet-owt-7be5be79.pth"
    assert lpips.missing() == f"AlexNet's weights are not here: put torchvision's {place.name} at {place}"


def test_other_weights_are_not_unpickled(hub: Path) -> None:
    (hub / lpips.BACKBONE).write_bytes(b"something else")
    assert "its SHA-256 should begin with 7be5be79" in (lpips.missing() or "")


def test_the_weights_that_torchvision_names_are_taken(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torchvision = pytest.importorskip("torchvision", reason="LPIPS needs vq-eval[lpips]: make test-lpips")
    assert torchvision.models.AlexNet_Weights.DEFAULT.url.endswith(lpips.BACKBONE)
    (hub / lpips.BACKBONE).write_bytes(b"weights")
    monkeypatch.setattr(lpips, "DIGEST", hashlib.sha256(b"weights").hexdigest()[:8])
    assert lpips.missing() is None


def test_without_torchvision_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lpips, "find_spec", lambda _: None)
    assert lpips.missing() == "torchvision is not installed: `pip install vq-eval[lpips]`"
