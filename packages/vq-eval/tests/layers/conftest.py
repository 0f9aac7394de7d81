"""Layers of a tiny model, and its twins side by side."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.numerics.scheme import scheme_named
from vq_core.remote.location import NamedPath
from vq_core.sampling.condition_encoding import TEXT_TOKENS
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.schedule import Call
from vq_core.sampling.settings import Sampling
from vq_core.store.reader import Artifact
from vq_core.store.writer import ComponentHeader, Header, create_artifact
from vq_core.testing.tiny_models import IMAGE_DIM, IMAGE_TOKENS, TEXT_DIM, Variant
from vq_eval.layers.lockstep import Lockstep
from vq_eval.layers.measure import measure_layers
from vq_eval.layers.noise_meter import NoiseMeter, SumRow
from vq_eval.layers.sensitivity import SensitivityRequest
from vq_eval.videos.candidates import open_named
from vq_eval.videos.variants import apply_fake_quant, apply_smoothed

Artifacts = Callable[[Variant], tuple[Path, Path]]
TinyModel = Callable[[Variant], Path]

SMALL = Sampling(steps=2, height=32, width=32, num_frames=5)


@pytest.fixture(scope="session")
def layered(
    tiny_model: TinyModel, artifacts: Artifacts, first_prompt: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Layers of `t2v` in INT8, with the sensitivity of its worst linears; not to be changed."""
    weights, qparams = artifacts("t2v")
    output = tmp_path_factory.mktemp("layers") / "layers"
    (candidate,) = open_named([weights], [NamedPath("int8", qparams)])
    sensitivity = SensitivityRequest("linears", (1, 30))
    model = str(tiny_model("t2v"))
    measure_layers(model, candidate, first_prompt, SMALL, output, sensitivity=sensitivity, device="cpu")
    return output


@pytest.fixture(scope="session")
def rewrite() -> Callable[..., Path]:
    """Write the artifact `artifact` anew to `path` with `change`d tensors, by component: a valid one, however wrong."""

    def write(
        artifact: Artifact,
        path: Path,
        change: Callable[[dict[str, Tensor]], None],
        parents: Mapping[str, str] | None = None,
    ) -> Path:
        manifest = artifact.manifest
        header = Header(
            kind=manifest.kind,
            format=manifest.format,
            tool="test",
            family=manifest.family,
            model=manifest.model,
            components={
                name: ComponentHeader(entry.folder, entry.fingerprint, entry.config)
                for name, entry in manifest.components.items()
            },
            settings=manifest.settings,
            parents=dict(parents if parents is not None else manifest.parents),
        )
        with create_artifact(path, header) as writer:
            for name, entry in manifest.components.items():
                tensors = artifact.tensors(name, entry.tensors)
                change(tensors)
                for file in sorted({it.file for it in entry.tensors.values()}):
                    of_file = {tensor: tensors[tensor] for tensor, it in entry.tensors.items() if it.file == file}
                    writer.write_tensors(file, of_file)
        return path

    return write


class Twins:
    """A tiny model's transformer in float32 and its twins, to be run side by side on one call."""

    def __init__(self, model: Path, weights: Path, qparams: Path) -> None:
        self.full = VideoPipeline(str(model), "cpu").transformers["transformer"]
        self.weights = open_weights(weights).components["transformer"]
        self.qparams = open_qparams(qparams)

    def quantized(self) -> nn.Module:
        twin = deepcopy(self.full)
        apply_fake_quant(twin, self.weights, self.qparams, "transformer", "cpu")
        return twin

    def smoothed(self) -> nn.Module:
        twin = deepcopy(self.full)
        apply_smoothed(twin, self.weights, "cpu")
        return twin

    def meter(self, twin: nn.Module) -> NoiseMeter:
        calls = (Call(0, 0, 700.0, 5),)
        return NoiseMeter("transformer", calls, self.full, twin, self.weights, scheme_named("int8"), "cpu")

    def measured(self, twin: nn.Module) -> list[SumRow]:
        meter = self.meter(twin)
        with Lockstep(self.full, twin, meter.names, meter.compare).attached():
            self.call(self.full)
        return meter.finish()

    @torch.no_grad()
    def call(self, transformer: nn.Module, timestep: float = 700.0) -> Tensor:
        """Call a Wan transformer as a pipeline does, on random latents, text, image and control."""
        rng = torch.Generator().manual_seed(0)
        config, more = transformer.config, {}
        if config.image_dim:
            more["encoder_hidden_states_image"] = torch.randn(1, IMAGE_TOKENS, IMAGE_DIM, generator=rng)
        if "vace_layers" in config:
            more["control_hidden_states"] = torch.randn(1, config.vace_in_channels, 2, 4, 4, generator=rng)
        (output,) = transformer(
            hidden_states=torch.randn(1, config.in_channels, 2, 4, 4, generator=rng),
            timestep=torch.tensor([timestep]),
            encoder_hidden_states=torch.randn(1, TEXT_TOKENS, TEXT_DIM, generator=rng),
            return_dict=False,
            **more,
        )
        return output


@pytest.fixture
def twins(tiny_model: TinyModel, artifacts: Artifacts) -> Callable[[Variant], Twins]:
    return lambda variant: Twins(tiny_model(variant), *artifacts(variant))
