"""Tiny models with the artifacts that stages make of them, and videos small enough to measure in milliseconds."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vq_core.artifacts import weights as weights_artifact
from vq_core.artifacts.components import component_headers
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.weights import SmoothedTransformer, open_weights
from vq_core.errors import VqError
from vq_core.media.video import write_video
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import SourceTransformer, open_source
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.folding import fold_group
from vq_core.recipes.ignored import IgnoreRule
from vq_core.sampling.condition_encoding import TEXT_TOKENS
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.settings import Sampling
from vq_core.store.writer import Header, create_artifact
from vq_core.testing import artifacts as testing_artifacts
from vq_core.testing.tiny_models import IMAGE_DIM, IMAGE_TOKENS, TEXT_DIM, Variant, write_samples
from vq_core.topology import shard_of
from vq_eval.videos.fake_quant import Made, make_videos, open_candidates
from vq_eval.videos.reference_cache import ReferenceCache
from vq_eval.videos.variants import apply_fake_quant, apply_smoothed

MakeFolder = Callable[..., Path]
TinyModel = Callable[[Variant], Path]
Artifacts = Callable[..., tuple[Path, Path]]


@pytest.fixture
def clip() -> np.ndarray:
    """Frames `[4, 32, 48, 3]` of a moving gradient, away from black and white so that noise is not clipped."""
    frame, row, column = np.meshgrid(np.arange(4), np.arange(32), np.arange(48), indexing="ij")
    channels = [64 + (8 * frame + scale * row + column) % 128 for scale in (1, 2, 3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.fixture
def noisy(clip: np.ndarray) -> np.ndarray:
    """`clip` with noise that differs from frame to frame."""
    amplitude = np.array([1, 2, 4, 8]).reshape(4, 1, 1, 1)
    noise = np.random.default_rng(0).integers(-1, 2, clip.shape) * amplitude
    return (clip + noise).astype(np.uint8)


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Make `tmp_path/name` with one video per file name in `videos`."""

    def make(name: str, videos: dict[str, np.ndarray]) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        for file_name, frames in videos.items():
            write_video(folder / file_name, frames, 16)
        return folder

    return make


@pytest.fixture(scope="session")
def write_weights() -> Callable[..., Path]:
    """Write the smoothed weights of `model` to `path`: random gains in every group that can be smoothed.

    With `across`, the modulated norms of all blocks have one more in common.
    """

    def write(model: Path, path: Path, dtype: torch.dtype = torch.float32, *, across: bool = False) -> Path:
        source = open_source(str(model))
        header = Header(
            kind=weights_artifact.KIND,
            format=weights_artifact.FORMAT,
            tool="test",
            family=source.family_name,
            model=source.name,
            components=component_headers(source),
        )
        with create_artifact(path, header) as writer:
            for name, component in source.components.items():
                tensors = _folded(component, dtype, across)
                for shard in component.topology.shards():
                    of_shard = {name: tensor for name, tensor in tensors.items() if shard_of(name) == shard}
                    writer.write_tensors(f"{name}/{shard}.safetensors", of_shard)
        return path

    return write


def _folded(component: SourceTransformer, dtype: torch.dtype, across: bool) -> dict[str, Tensor]:
    topology = component.topology
    original = component.plain(topology.tensors)
    groups = (*topology.groups, *(topology.across_blocks if across else ()))
    tensors = original | {group.gain: torch.ones(group.in_features) for group in groups}
    generator = torch.Generator().manual_seed(1)
    for group in groups:
        if group.sink is not None:
            # Between 1/2 and 2: forgetting one is far outside the quantization error.
            gain = nearest_bf16(2 ** (2 * torch.rand(group.in_features, generator=generator) - 1))
            fold_group(tensors, group, gain)
            tensors[group.gain] = gain
    for name, tensor in original.items():
        if tensors[name] is not tensor:
            tensors[name] = tensors[name].to(dtype)
    return tensors


@pytest.fixture(scope="session")
def write_qparams() -> Callable[..., Path]:
    """Write quant params of the artifact `weights` to `path`; see `vq_core.testing.artifacts`."""
    return testing_artifacts.write_qparams


@pytest.fixture(scope="session")
def artifacts(
    tiny_model: TinyModel,
    write_weights: Callable[..., Path],
    write_qparams: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Artifacts:
    """Smoothed weights and INT8 quant params of a tiny model, made once per variant.

    With `across`, the modulated norms of all blocks have a gain in common.
    """
    made: dict[tuple[Variant, bool], tuple[Path, Path]] = {}

    def of_model(variant: Variant, across: bool = False) -> tuple[Path, Path]:
        if (variant, across) not in made:
            folder = tmp_path_factory.mktemp("artifacts")
            weights = write_weights(tiny_model(variant), folder / "smoothed", across=across)
            made[variant, across] = (weights, write_qparams(weights, folder / "qparams"))
        return made[variant, across]

    return of_model


@pytest.fixture(scope="session")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two prompts, with images."""
    return write_samples(tmp_path_factory.mktemp("prompts") / "two", 2, with_images=True)


@pytest.fixture(scope="session")
def one_prompt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One prompt, with its image."""
    return write_samples(tmp_path_factory.mktemp("prompts") / "one", 1, with_images=True)


class Job:
    """Everything `make_videos` needs, small; `run` overrides some of it."""

    def __init__(self, model: Path, weights: Path, qparams: Path, prompts: Path, output: Path) -> None:
        self.model, self.weights, self.qparams = model, weights, qparams
        self.prompts, self.output = prompts, output
        self.asked: Sequence[str] = ("full", "fake-quant")
        self.sampling = Sampling(steps=2, height=64, width=64, num_frames=5)
        self.device = "cpu"
        self.ignored: tuple[IgnoreRule, ...] = ()
        self.loras: tuple[LoraRequest, ...] = ()
        self.cache: ReferenceCache | None = None

    def run(self, output: Path | None = None, *, resume: bool = False) -> Made:
        candidates = open_candidates(self.asked, self.weights, self.qparams, self.ignored)
        made = make_videos(
            str(self.model),
            candidates,
            self.prompts,
            self.sampling,
            output or self.output,
            loras=self.loras,
            device=self.device,
            resume=resume,
            cache=self.cache,
        )
        assert made is not None
        return made

    def code(self) -> str:
        """Code that sets the arguments of the command that makes the same videos."""
        inputs = [
            "--model",
            self.model,
            "--weights",
            self.weights,
            "--qparams",
            self.qparams,
            "--prompts",
            self.prompts,
        ]
        small = ["--steps", 2, "--height", 64, "--width", 64, "--num-frames", 5, "--device", self.device]
        more = ["-o", self.output, "--variants", ",".join(self.asked), "--no-cache"]
        return f"import sys\nsys.argv = {['vq-eval', 'fake-quant', *map(str, [*inputs, *small, *more])]}\n"

    def refused(self, sentence: str, *, resume: bool = False) -> None:
        """Refused with `sentence`, and no new folder is left."""
        before = set(self.output.parent.iterdir())
        with pytest.raises(VqError, match=sentence):
            self.run(resume=resume)
        assert set(self.output.parent.iterdir()) == before


@pytest.fixture
def job(tiny_model: TinyModel, artifacts: Artifacts, prompts: Path, tmp_path: Path) -> Callable[[Variant], Job]:
    """`job(variant)`: videos of two prompts, to be made of a tiny model and its artifacts."""
    return lambda variant: Job(tiny_model(variant), *artifacts(variant), prompts, tmp_path / "videos")


@pytest.fixture(scope="session")
def whole(tiny_model: TinyModel, artifacts: Artifacts, prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Text-to-video in all variants, two prompts, uninterrupted; not to be changed."""
    work = Job(tiny_model("t2v"), *artifacts("t2v"), prompts, tmp_path_factory.mktemp("whole") / "videos")
    work.asked = ("full", "smoothed", "fake-quant")
    work.run()
    return work.output


@pytest.fixture(scope="session")
def other_artifacts(
    tiny_model: TinyModel,
    write_weights: Callable[..., Path],
    write_qparams: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Path, Path]:
    """The same smoothing of `t2v` in bfloat16, and FP8 quant params of it."""
    folder = tmp_path_factory.mktemp("other")
    weights = write_weights(tiny_model("t2v"), folder / "smoothed-bf16", torch.bfloat16)
    return weights, write_qparams(weights, folder / "qparams-fp8", "fp8")


class Twins:
    """A tiny model's transformer in float32, the artifacts made of it, and its twins."""

    def __init__(self, model: Path, weights: Path, qparams: Path) -> None:
        self.full = VideoPipeline(str(model), "cpu").transformers["transformer"]
        self.weights_path = weights
        self.weights: SmoothedTransformer = open_weights(weights).components["transformer"]
        self.qparams: QuantParams = open_qparams(qparams)

    def smoothed(self) -> nn.Module:
        twin = deepcopy(self.full)
        apply_smoothed(twin, self.weights, "cpu")
        return twin

    def quantized(self, start: nn.Module | None = None, ignored: tuple[str, ...] = ()) -> nn.Module:
        twin = deepcopy(start or self.full)
        apply_fake_quant(twin, self.weights, self.qparams, "transformer", "cpu", ignored)
        return twin

    @staticmethod
    @torch.no_grad()
    def call(transformer: nn.Module, timestep: float = 700.0) -> Tensor:
        """Call a Wan transformer as a pipeline does, on random latents, text, image and control."""
        rng = torch.Generator().manual_seed(0)
        config, dtype, more = transformer.config, transformer.patch_embedding.weight.dtype, {}
        if config.image_dim:
            more["encoder_hidden_states_image"] = torch.randn(1, IMAGE_TOKENS, IMAGE_DIM, generator=rng).to(dtype)
        if "vace_layers" in config:
            more["control_hidden_states"] = torch.randn(1, config.vace_in_channels, 2, 4, 4, generator=rng)
        (output,) = transformer(
            hidden_states=torch.randn(1, config.in_channels, 2, 4, 4, generator=rng).to(dtype),
            timestep=torch.tensor([timestep]),
            encoder_hidden_states=torch.randn(1, TEXT_TOKENS, TEXT_DIM, generator=rng).to(dtype),
            return_dict=False,
            **more,
        )
        return output


@pytest.fixture
def twins(tiny_model: TinyModel, artifacts: Artifacts) -> Callable[..., Twins]:
    """`twins(variant, across=False)`: a tiny model with its artifacts."""
    return lambda variant, across=False: Twins(tiny_model(variant), *artifacts(variant, across))
