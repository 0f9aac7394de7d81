import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler
from safetensors.torch import load_file
from torch import Tensor, nn

from vq_core.model.source import open_source
from vq_core.sampling.model_defaults import defaults_of
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import FIRST_FRAME, TEXT_ONLY, read_samples
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import VARIANTS, Variant, build_tiny, write_samples

SAMPLING = Sampling(steps=2, height=64, width=64, num_frames=5)
CLASSES = {
    "t2v": "WanPipeline",
    "i2v": "WanImageToVideoPipeline",
    "flf2v": "WanImageToVideoPipeline",
    "vace": "WanVACEPipeline",
    "t2v-2.2": "WanPipeline",
    "i2v-2.2": "WanImageToVideoPipeline",
    "ti2v-5b": "WanPipeline",
    "t2v-distilled": "WanPipeline",
}


BOUNDARIES = {"t2v-2.2": 0.875, "i2v-2.2": 0.9}


@pytest.fixture(scope="module", params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> Variant:
    """Every layout in turn."""
    chosen: Variant = request.param
    return chosen


@pytest.fixture(scope="module")
def tiny(variant: Variant, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny(variant, tmp_path_factory.mktemp("tiny") / variant)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_gives_the_same_bytes(tiny: Path, variant: Variant, tmp_path: Path) -> None:
    torch.rand(7)  # the state of the global generator does not matter
    assert digests(build_tiny(variant, tmp_path / "again")) == digests(tiny)


def test_another_seed_gives_another_model(tiny: Path, variant: Variant, tmp_path: Path) -> None:
    other = digests(build_tiny(variant, tmp_path / "other", seed=1))
    differing = {name for name, digest in digests(tiny).items() if other[name] != digest}
    assert differing == {name for name in other if name.endswith(".safetensors")}


def test_building_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    build_tiny("t2v", tmp_path / "t2v")
    assert torch.equal(torch.rand(3), expected)


def test_it_is_small_and_sharded(tiny: Path) -> None:
    assert sum(path.stat().st_size for path in tiny.rglob("*") if path.is_file()) < 3e6
    assert (tiny / "transformer" / "diffusion_pytorch_model.safetensors.index.json").exists()


def test_it_is_the_layout_it_says(tiny: Path, variant: Variant) -> None:
    index = json.loads((tiny / "model_index.json").read_text())
    assert index["_class_name"] == CLASSES[variant]
    assert (tiny / "transformer_2").is_dir() == (variant in BOUNDARIES)
    assert (tiny / "image_encoder").is_dir() == (variant in ("i2v", "flf2v"))
    assert index["boundary_ratio"] == BOUNDARIES.get(variant)
    assert bool(index.get("expand_timesteps")) == (variant == "ti2v-5b")
    config = json.loads((tiny / "transformer" / "config.json").read_text())
    assert config.get("pos_embed_seq_len") == (34 if variant == "flf2v" else None)
    assert config.get("vace_layers") == ([0, 2] if variant == "vace" else None)


def test_the_source_reader_takes_it(tiny: Path, variant: Variant) -> None:
    expected = {"transformer", "transformer_2"} if variant in BOUNDARIES else {"transformer"}
    assert set(open_source(str(tiny)).components) == expected


def test_block_linears_fit_the_kernels_and_weights_are_stored_as_loaded(tiny: Path) -> None:
    for path in (tiny / "transformer").glob("*.safetensors"):
        for name, tensor in load_file(path).items():
            in_fp32 = any(
                part in name.split(".") for part in ("time_embedder", "scale_shift_table", "norm1", "norm2", "norm3")
            )
            assert tensor.dtype == (torch.float32 if in_fp32 else torch.bfloat16), name
            if name.startswith("blocks.") and tensor.ndim == 2:
                assert [size % 16 for size in tensor.shape] == [0, 0], name


def test_videos_have_contrast_and_linears_see_outlier_channels(tiny: Path, tmp_path: Path) -> None:
    pipeline = VideoPipeline(str(tiny), "cpu")
    samples = read_samples(write_samples(tmp_path / "samples", 1, with_images=True), pipeline.inputs)
    (conditions,) = pipeline.encode(samples, SAMPLING)
    peaks: dict[str, Tensor] = {}

    def record(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            peaks[name] = inputs[0].abs().flatten(0, -2).amax(dim=0)

        return hook

    block = pipeline.transformers["transformer"].get_submodule("blocks.1")
    for name in ("attn1.to_q", "attn2.to_q", "ffn.net.0.proj", "ffn.net.2"):
        block.get_submodule(name).register_forward_pre_hook(record(name))
    frames = pipeline.sample(conditions, SAMPLING, seed=0)
    assert frames.std() > 30
    assert np.isin(frames, (0, 255)).mean() < 0.25
    for name, peak in peaks.items():
        assert peak.max() > 4 * peak.median(), name


def test_the_distilled_model_is_sampled_by_euler_without_guidance(tmp_path: Path) -> None:
    model = build_tiny("t2v-distilled", tmp_path / "model")
    defaults = defaults_of(str(model))
    assert (defaults.steps, defaults.guidance_scale) == (4, 1.0)
    scheduler = UniPCMultistepScheduler.from_pretrained(model / "scheduler")
    scheduler.set_timesteps(defaults.steps)
    sigmas = scheduler.sigmas.double()
    # What the few-step models were trained at: t = 1000, 750, 500, 250, shifted by 5.
    t = torch.tensor([1.0, 0.75, 0.5, 0.25], dtype=torch.float64)
    assert torch.allclose(sigmas[:4], 5 * t / (1 + 4 * t), atol=2e-3)
    x = torch.randn(1, 2, 3, dtype=torch.float64)
    expected = x.clone()
    for step, timestep in enumerate(scheduler.timesteps):
        velocity = torch.sin(3 * x) + step
        expected += (sigmas[step + 1] - sigmas[step]) * velocity
        x = scheduler.step(velocity, timestep, x, return_dict=False)[0]
        assert torch.allclose(x, expected, atol=1e-5)


def test_samples_are_read_back(tmp_path: Path) -> None:
    folder = write_samples(tmp_path / "samples", 5, with_images=True)
    samples = read_samples(folder, FIRST_FRAME)
    assert len({sample.prompt for sample in samples}) == 5
    assert len({sample.image.read_bytes() for sample in samples if sample.image}) == 5
    assert all(sample.negative_prompt for sample in samples)


def test_samples_without_images(tmp_path: Path) -> None:
    folder = write_samples(tmp_path / "samples", 2, with_images=False)
    assert len(read_samples(folder, TEXT_ONLY)) == 2
    assert [path.name for path in folder.iterdir()] == ["samples.json"]
