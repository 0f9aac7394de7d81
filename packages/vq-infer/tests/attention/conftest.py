"""GPUs that are not here, as far as the choice of an attention sees them."""

from collections.abc import Callable

import pytest
import torch


@pytest.fixture
def pretend_gpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], torch.device]:
    """Make torch answer for a CUDA device of a compute capability."""

    def pretend(major: int, minor: int) -> torch.device:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (major, minor))
        return torch.device("cuda")

    return pretend
