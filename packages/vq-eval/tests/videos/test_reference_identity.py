"""Everything that changes a video changes its identity, and nothing else does."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from vq_core.model.source import open_source
from vq_core.sampling.attention import AttentionKernel
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant
from vq_eval.videos.model_run import ModelRun
from vq_eval.videos.reference_identity import device_identity, identity_of_run, identity_of_video, parts_of

SAMPLING = Sampling(steps=2, height=64, width=64, num_frames=5)


@pytest.fixture
def model(tiny_model: Callable[[Variant], Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model("i2v"), tmp_path / "model"))


def identity(
    model: Path,
    sampling: Sampling = SAMPLING,
    kernels: Sequence[AttentionKernel] = (),
    dtype: torch.dtype | None = None,
) -> dict[str, Any]:
    source = open_source(str(model))
    pipeline = VideoPipeline(str(model), "cpu", dtype=dtype, source=source)
    return identity_of_run(ModelRun(str(model), source, pipeline, (), sampling), kernels)


def test_another_place_for_the_same_model_is_the_same(model: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.copytree(model, tmp_path / "elsewhere" / "name"))
    (moved / "README.md").write_text("not read")
    (moved / ".cache").mkdir()
    (moved / ".cache" / "x").write_text("not read")
    assert identity(moved) == identity(model)


@pytest.mark.parametrize(
    "changed",
    [
        {"sampling": replace(SAMPLING, steps=3)},
        {"sampling": replace(SAMPLING, guidance_scale=4.0)},
        {"sampling": replace(SAMPLING, fps=8)},
        {"kernels": ("math",)},
        {"dtype": torch.bfloat16},
    ],
)
def test_settings_count(changed: dict[str, Any], model: Path) -> None:
    assert identity(model, **changed) != identity(model)


def test_the_seed_counts_where_it_is_used(model: Path) -> None:
    run = identity(model)
    assert identity(model, replace(SAMPLING, seed=1)) == run
    sample = Sample("a cat")
    assert identity_of_video(run, sample, 1) != identity_of_video(run, sample, 2)


@pytest.mark.parametrize("part", ["vae", "text_encoder", "image_encoder", "transformer"])
def test_a_weight_of_any_part_counts(part: str, model: Path) -> None:
    before = identity(model)
    path = sorted((model / part).glob("*.safetensors"))[0]
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name].view(-1)[0] += 1
    save_file(tensors, path, {"format": "pt"})
    assert identity(model) != before


def test_the_scheduler_counts(model: Path) -> None:
    before = identity(model)
    path = model / "scheduler" / "scheduler_config.json"
    path.write_text(path.read_text().replace('"flow_shift": 3.0', '"flow_shift": 5.0'))
    assert identity(model) != before


def test_the_prompt_and_what_is_in_its_image_count(model: Path, tmp_path: Path) -> None:
    run = identity(model)
    image, copy = tmp_path / "a.png", tmp_path / "b.png"
    for path in (image, copy):
        Image.new("RGB", (8, 8), "red").save(path)
    sample = Sample("a cat", "blurred", image)
    base = identity_of_video(run, sample, 1)
    assert identity_of_video(run, replace(sample, image=copy), 1) == base
    assert identity_of_video(run, replace(sample, prompt="a dog"), 1) != base
    assert identity_of_video(run, replace(sample, negative_prompt=""), 1) != base
    Image.new("RGB", (8, 8), "blue").save(image)
    assert identity_of_video(run, replace(sample), 1) != base


def test_the_number_of_threads_counts_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    before = device_identity("cpu")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 999)
    assert device_identity("cpu") != before
    assert before["type"] == "cpu"


def test_the_transformers_are_left_to_their_fingerprints(model: Path) -> None:
    names = set(parts_of(model, ["transformer"]))
    assert "model_index.json" in names
    assert {name.split("/")[0] for name in names if "/" in name} == {
        "vae", "text_encoder", "tokenizer", "scheduler", "image_encoder", "image_processor",
    }  # fmt: skip
