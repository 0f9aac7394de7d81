"""Tiny models, what the stages make of them, and a way to run every stage's command in this process."""

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from vq_core.testing.tiny_models import write_samples

Run = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def run() -> Run:
    """`run("vq-calib collect", "--model", …)` runs the command as typed and returns its JSON result."""

    def run_command(command: str, *arguments: object) -> dict[str, Any]:
        program, *sub_command = command.split()
        app = import_module(f"{program.replace('-', '_')}.cli").app
        with redirect_stdout(io.StringIO()) as printed:
            app([*sub_command, *map(str, arguments), "--json"], standalone_mode=False)
        result: dict[str, Any] = json.loads(printed.getvalue())
        return result

    return run_command


@pytest.fixture(scope="session")
def sampling() -> list[str]:
    """Options for videos of a tiny model."""
    return ["--steps", "2", "--height", "32", "--width", "32", "--num-frames", "5", "--device", "cpu"]


@pytest.fixture(scope="session")
def one_prompt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One prompt, with every file that a model may start from."""
    return write_samples(tmp_path_factory.mktemp("one"), 1, with_images=True)


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two prompts with images."""
    return write_samples(tmp_path_factory.mktemp("prompts"), 2, with_images=True)


@pytest.fixture(scope="session")
def smoothed(
    tmp_path_factory: pytest.TempPathFactory, run: Run, tiny_model: Any, prompts: Path, sampling: list[str]
) -> Path:
    """Collected and SmoothQuant'd weights of the tiny image-to-video model, in `FOLDER/smoothed`."""
    folder = tmp_path_factory.mktemp("smoothed")
    model = tiny_model("i2v")
    run("vq-calib collect", "--model", model, "--prompts", prompts, "-o", folder / "stats", *sampling)
    run("vq-algos smooth", "--model", model, "--stats", folder / "stats", "-o", folder / "smoothed")
    return folder / "smoothed"


@pytest.fixture(scope="session")
def quantized(run: Run, smoothed: Path) -> Callable[[str], Path]:
    """`quantized("int8")`: a folder with `qparams`, rounded to nearest from `smoothed`, and its LightX2V `ckpt`."""

    def make(scheme: str) -> Path:
        folder = smoothed.parent / scheme
        if not folder.exists():
            run("vq-algos quantize", "--weights", smoothed, "--scheme", scheme, "-o", folder / "qparams")
            artifacts = ("--weights", smoothed, "--qparams", folder / "qparams")
            run("vq-export lightx2v", *artifacts, "-o", folder / "ckpt")
        return folder

    return make


@pytest.fixture
def original(tiny_model: Any) -> nn.Module:
    """The tiny image-to-video transformer as diffusers loads it, in fp32."""
    loaded = WanTransformer3DModel.from_pretrained(tiny_model("i2v") / "transformer", torch_dtype=torch.float32)
    return loaded.float().eval()


@pytest.fixture(scope="session")
def inputs() -> dict[str, Tensor]:
    """Arguments of one call of the tiny image-to-video transformer."""
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(1, 36, 2, 8, 8, generator=generator),
        "timestep": torch.tensor([700.0]),
        "encoder_hidden_states": torch.randn(1, 512, 32, generator=generator),
        "encoder_hidden_states_image": torch.randn(1, 17, 48, generator=generator),
    }
