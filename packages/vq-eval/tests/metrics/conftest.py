"""Videos that every metric takes, and a backbone for LPIPS without a file."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vq_eval.metrics import Clip


@pytest.fixture(scope="session")
def large() -> list[Clip]:
    """The same 3 frames of 176x192, the least that every metric takes, with no noise and with more and more of it."""
    frame, row, column = np.meshgrid(np.arange(3), np.arange(176), np.arange(192), indexing="ij")
    channels = [64 + (8 * frame + scale * row + column) % 128 for scale in (1, 2, 3)]
    clean = np.stack(channels, axis=-1)
    generator = np.random.default_rng(0)
    noise = [generator.integers(-amplitude, amplitude + 1, clean.shape) for amplitude in (4, 16, 60)]
    return [Clip(Path("none.mkv"), (clean + it).astype(np.uint8)) for it in (np.zeros_like(clean), *noise)]


@pytest.fixture
def random_alexnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backbone for LPIPS without a file: AlexNet's features with random weights, the same every time.

    torchvision is an extra: with it in the environment torchmetrics takes many seconds longer to import.
    """
    torchvision = pytest.importorskip("torchvision", reason="LPIPS needs vq-eval[lpips]: make test-lpips")

    def build(weights: object) -> SimpleNamespace:
        with torch.device("meta"):
            features = torchvision.models.AlexNet().features
        features = features.to_empty(device="cpu")
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in features.parameters():
                fan_in = parameter[0].numel() if parameter.ndim > 1 else 10
                parameter.copy_(torch.randn(parameter.shape, generator=generator) / fan_in**0.5)
        return SimpleNamespace(features=features)

    monkeypatch.setattr(torchvision.models, "alexnet", build)
