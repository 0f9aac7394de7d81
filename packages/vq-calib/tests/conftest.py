"""Tiny pipelines, prompts for them, a run that takes seconds, and a record of everything that a run reads."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vq_calib.collection.collect import collect
from vq_calib.planning.calib_prompts import RunPart
from vq_calib.planning.run_plan import CollectRequest
from vq_core.model.source import open_source
from vq_core.sampling.pipeline import Conditions, VideoPipeline
from vq_core.sampling.prompts import read_samples
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant, write_samples

TinyModel = Callable[[Variant], Path]
Record = Callable[[Path, Path, Sampling], dict[tuple[str, str], list["Seen"]]]


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three prompts with images of different shapes."""
    return write_samples(tmp_path_factory.mktemp("prompts"), 3, with_images=True)


@pytest.fixture(scope="session")
def sampling() -> Sampling:
    """Few tokens, and steps that reach both experts of Wan2.2."""
    return Sampling(steps=4, height=64, width=64, num_frames=5)


@pytest.fixture(scope="session")
def make_request(tiny_model: TinyModel, prompts: Path, sampling: Sampling) -> Callable[..., CollectRequest]:
    """`make_request("i2v", tokens=8, steps=2)`: a run over the prompts on the CPU."""

    def make(
        variant: Variant = "t2v", *, tokens: int | None = None, part: RunPart | None = None, **changed: Any
    ) -> CollectRequest:
        return CollectRequest(str(tiny_model(variant)), prompts, replace(sampling, **changed), tokens, part, "cpu")

    return make


@pytest.fixture(scope="session")
def stats(make_request: Callable[..., CollectRequest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Statistics of the image-to-video model over two prompts."""
    folder = tmp_path_factory.mktemp("stats")
    samples = write_samples(folder / "prompts", 2, with_images=True)
    collect(replace(make_request("i2v"), prompts=samples), folder / "stats")
    return folder / "stats"


@pytest.fixture(scope="session")
def contents() -> Callable[[Path], dict[str, bytes]]:
    """The bytes of every file in a folder, by path."""
    return lambda folder: {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@dataclass(frozen=True)
class Seen:
    """The input of one linear in one call, `[tokens, in]`, told apart by what the pipeline passes."""

    prompt: int
    step: int
    branch: int
    bucket: int
    x: NDArray[np.float32]


class Recorder:
    """Stores every input of every linear of one transformer."""

    def __init__(self, component: str, transformer: nn.Module, linears: list[str]) -> None:
        self.seen: dict[tuple[str, str], list[Seen]] = {(component, linear): [] for linear in linears}
        self.conditions: Conditions | None = None
        self.prompt = self.step = 0
        self._where = (0, 0)
        transformer.register_forward_pre_hook(self._call, with_kwargs=True)
        for linear in linears:
            transformer.get_submodule(linear).register_forward_pre_hook(self._read(self.seen[component, linear]))

    def _call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        assert self.conditions is not None
        text = kwargs["encoder_hidden_states"].float()
        conditional = torch.equal(text, self.conditions.prompt_embeds.float())
        sigma = kwargs["timestep"].max().item() / 1000
        self._where = (0 if conditional else 1, min(int(sigma * 8), 7))

    def _read(self, seen: list[Seen]) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def read(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            rows = args[0].reshape(-1, args[0].shape[-1])
            seen.append(Seen(self.prompt, self.step, *self._where, rows.numpy().copy()))

        return read


@pytest.fixture(scope="session")
def record() -> Record:
    """`record(model, prompts, sampling)`: by component and linear, its input in every call of the run of `collect`."""

    def run(model: Path, prompts: Path, sampling: Sampling) -> dict[tuple[str, str], list[Seen]]:
        pipeline = VideoPipeline(str(model), "cpu")
        components = open_source(str(model)).components
        conditions = pipeline.encode(read_samples(prompts, pipeline.inputs), sampling)
        recorders = [
            Recorder(name, transformer, [linear.name for linear in components[name].topology.linears])
            for name, transformer in pipeline.transformers.items()
        ]

        def next_step() -> None:
            for recorder in recorders:
                recorder.step += 1

        for index, condition in enumerate(conditions):
            for recorder in recorders:
                recorder.conditions, recorder.prompt, recorder.step = condition, index, 0
            pipeline.denoise(condition, sampling, sampling.seed + index, next_step)
        return {key: seen for recorder in recorders for key, seen in recorder.seen.items()}

    return run
