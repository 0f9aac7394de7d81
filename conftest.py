"""What holds for every test: no network, no surprise deadlines, and CUDA tests only where there is CUDA."""

import os

import pytest
from hypothesis import settings

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything imports huggingface_hub, which reads it once

# Examples are the same on every run, and a busy machine is not a failure.
settings.register_profile("vq", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("vq")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests marked `gpu` where torch finds no CUDA device."""
    on_gpu = [item for item in items if item.get_closest_marker("gpu")]
    if not on_gpu:
        return
    import torch

    if not torch.cuda.is_available():
        for item in on_gpu:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))
