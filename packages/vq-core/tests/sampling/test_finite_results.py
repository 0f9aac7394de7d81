"""NaN and infinity are refused where they arise, by the name of the part, the step and the prompt."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vq_core.errors import VqError
from vq_core.sampling import pretrained
from vq_core.sampling.finite_results import FiniteResults
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant

NAN, INF = float("nan"), float("inf")
SAMPLING = Sampling(steps=2, height=32, width=32, num_frames=5)

TinyModel = Callable[[Variant], Path]


@pytest.fixture
def damaged(tiny_model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., VideoPipeline]:
    """`damaged("t2v", "vae/decoder.conv_out.bias", INF)`: that model with this value as the tensor's first.

    It stands for an overflow; a value like that in a file would be refused as it is loaded.
    """
    monkeypatch.setattr(pretrained, "require_finite", lambda *_: None)

    def damage(variant: Variant, where: str, value: float) -> VideoPipeline:
        model, (part, tensor) = tmp_path / "model", where.split("/")
        shutil.copytree(tiny_model(variant), model)
        for file in (model / part).glob("*.safetensors"):
            tensors = load_file(file)
            if tensor in tensors:
                tensors[tensor].view(-1)[0] = value
                save_file(tensors, file, {"format": "pt"})
                return VideoPipeline(str(model), "cpu")
        raise AssertionError(f"{part} has no {tensor}")

    return damage


@pytest.mark.parametrize(
    ("variant", "tensor", "value", "sentence"),
    [
        ("t2v", "text_encoder/encoder.final_layer_norm.weight", NAN, "The text encoder of {model} gave {bad} for"),
        ("i2v", "image_encoder/embeddings.class_embedding", INF, "The image encoder of {model} gave {bad} for"),
        ("t2v", "transformer/proj_out.bias", INF, "The transformer of {model} gave {bad} in step 1 of 2 for"),
        ("t2v-2.2", "transformer_2/proj_out.bias", NAN, "The transformer_2 of {model} gave {bad} in step 2 of 2 for"),
        ("i2v", "vae/quant_conv.bias", NAN, "The VAE of {model} gave {bad} from the pictures for"),
        ("t2v", "vae/decoder.conv_out.bias", INF, "The VAE of {model} gave {bad} in the frames for"),
    ],
)
def test_the_part_that_gave_it_is_named(
    damaged: Callable[..., VideoPipeline],
    samples: list[Sample],
    variant: Variant,
    tensor: str,
    value: float,
    sentence: str,
) -> None:
    pipeline = damaged(variant, tensor, value)
    begins = sentence.format(model=pipeline.path, bad="NaN or infinite values")
    with pytest.raises(VqError, match=rf"{begins} prompt 1 \('{samples[1].prompt}'\): its weights"):
        pipeline.sample(pipeline.encode(samples[1:], SAMPLING)[0], SAMPLING, seed=0)


def test_a_run_whose_video_nobody_sees_is_watched_too(
    damaged: Callable[..., VideoPipeline], samples: list[Sample]
) -> None:
    pipeline = damaged("t2v", "transformer/proj_out.bias", NAN)
    with pytest.raises(VqError, match="in step 1 of 2"):
        pipeline.denoise(pipeline.encode(samples[:1], SAMPLING)[0], SAMPLING, seed=0)


def test_a_scheduler_that_divides_by_zero_is_named(tiny_model: TinyModel, samples: list[Sample]) -> None:
    pipeline = VideoPipeline(str(tiny_model("t2v")), "cpu")
    (conditions,) = pipeline.encode(samples[:1], SAMPLING)

    def damage(scheduler: Any) -> None:
        scheduler.step = lambda *_, **__: (torch.full((1, 16, 2, 4, 4), float("inf")),)

    with pytest.raises(VqError, match="The scheduler of .* in step 1 of 2 for prompt 0"):
        pipeline.denoise(conditions, SAMPLING, 0, on_scheduler=damage)


def test_who_watches_a_step_speaks_first(damaged: Callable[..., VideoPipeline], samples: list[Sample]) -> None:
    pipeline = damaged("t2v", "transformer/proj_out.bias", NAN)

    def say_more() -> None:
        raise VqError("The linear is named.")

    with pytest.raises(VqError, match="The linear is named"):
        pipeline.denoise(pipeline.encode(samples[:1], SAMPLING)[0], SAMPLING, 0, say_more)


class _Scheduler:
    def step(self, prediction: Tensor) -> tuple[Tensor]:
        return (prediction,)


class _Pipeline:
    def __init__(self) -> None:
        self.vae = SimpleNamespace(quant_conv=nn.Identity(), decoder=nn.Identity())
        self.scheduler = _Scheduler()


@pytest.mark.gpu
def test_on_cuda_the_step_before_is_looked_at() -> None:
    results, pipeline = FiniteResults(Path("model"), Sample("a kite"), ["transformer"] * 3), _Pipeline()
    good, bad = torch.zeros(2, device="cuda"), torch.full((2,), INF, device="cuda")
    with results.watched(pipeline):
        results.end_step(*pipeline.scheduler.step(bad))
        with pytest.raises(VqError, match=r"The transformer of model .* in step 1 of 3 for the prompt 'a kite'"):
            results.end_step(*pipeline.scheduler.step(good))


@pytest.mark.gpu
def test_on_cuda_the_last_step_is_looked_at_too() -> None:
    results, pipeline = FiniteResults(Path("model"), Sample("a kite"), ["transformer"]), _Pipeline()
    with pytest.raises(VqError, match="in step 1 of 1"), results.watched(pipeline):
        results.end_step(*pipeline.scheduler.step(torch.full((2,), NAN, device="cuda")))
