"""Tiny pipelines, prompts for them, and a run that takes seconds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.pipeline import Sampling
from vq_core.tiny import Variant, build_tiny, write_samples

TinyModel = Callable[[Variant], Path]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> TinyModel:
    """The tiny model of a variant, built once."""
    folder = tmp_path_factory.mktemp("models")

    def build(variant: Variant) -> Path:
        path = folder / variant
        return path if path.exists() else build_tiny(variant, path)

    return build


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three prompts with images of different shapes."""
    return write_samples(tmp_path_factory.mktemp("prompts"), 3, with_images=True)


@pytest.fixture(scope="session")
def sampling() -> Sampling:
    """Few tokens, and steps that reach both experts of Wan2.2."""
    return Sampling(steps=4, height=64, width=64, num_frames=5)


@pytest.fixture(scope="session")
def stats(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory, sampling: Sampling) -> Path:
    """Statistics of the image-to-video model over two prompts."""
    from vq_calib.collect import collect

    folder = tmp_path_factory.mktemp("stats")
    samples = write_samples(folder / "prompts", 2, with_images=True)
    collect(str(tiny_model("i2v")), samples, folder / "stats", sampling, device="cpu")
    return folder / "stats"
