"""What is refused, before any part of a model is loaded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.errors import VqError
from vq_core.testing.tiny_models import Variant, write_samples
from vq_eval.videos.fake_quant import open_candidates

Artifacts = Callable[[Variant], tuple[Path, Path]]
MakeJob = Callable[[Variant], Any]
TinyModel = Callable[[Variant], Path]


def test_an_unknown_variant_is_refused(job: MakeJob) -> None:
    work = job("t2v")
    work.asked = ["full", "fake_quant"]
    work.refused("`fake_quant` is not a variant: choose from full, floor, smoothed, fake-quant.")


@pytest.mark.parametrize("variant", ["smoothed", "fake-quant"])
def test_a_variant_without_its_weights_is_refused(artifacts: Artifacts, variant: str) -> None:
    with pytest.raises(VqError, match="`--weights` is missing"):
        open_candidates([variant], None, artifacts("t2v")[1])


def test_fake_quant_without_quant_params_is_refused(artifacts: Artifacts) -> None:
    with pytest.raises(VqError, match="`--qparams` is missing"):
        open_candidates(["fake-quant"], artifacts("t2v")[0], None)


def test_quant_params_of_other_weights_are_refused(
    job: MakeJob, write_weights: Callable[..., Path], tmp_path: Path
) -> None:
    work = job("t2v")
    work.weights = write_weights(work.model, tmp_path / "other", torch.bfloat16)
    work.refused(f"{work.qparams} was not made from {work.weights}")


def test_artifacts_of_another_model_are_refused(job: MakeJob, tiny_model: TinyModel) -> None:
    work = job("t2v")
    work.model = tiny_model("i2v")
    work.refused(f"{work.weights} was made from another model")


def test_prompts_without_images_are_refused_by_an_image_to_video_model(job: MakeJob, tmp_path: Path) -> None:
    work = job("i2v")
    work.prompts = write_samples(tmp_path / "texts", 1, with_images=False)
    work.refused("has no `image`")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"height": 100}, "height 100 is not a multiple of 16: use 96 or 112"),
        ({"num_frames": 8}, "num_frames 8 is not 4k"),
        ({"steps": 0}, "steps 0 is less than 1"),
    ],
)
def test_sizes_that_the_model_cannot_have_are_refused(job: MakeJob, change: dict[str, int], sentence: str) -> None:
    work = job("i2v")
    work.sampling = replace(work.sampling, **change)
    work.refused(sentence)


def test_an_output_that_exists_is_refused(job: MakeJob) -> None:
    work = job("t2v")
    work.output.mkdir()
    work.refused(f"{work.output} exists already")


def test_a_cuda_device_that_is_not_there_is_refused(job: MakeJob) -> None:
    work = job("t2v")
    work.device = "cuda:99"
    work.refused("`cuda:99` is not in this machine")


def test_a_folder_that_is_no_diffusers_model_is_refused(job: MakeJob, tmp_path: Path) -> None:
    work = job("t2v")
    work.model = tmp_path / "native"
    work.model.mkdir()
    work.refused(f"{work.model} is not a model that is read here")


def test_a_transformer_alone_is_refused(job: MakeJob) -> None:
    work = job("t2v")
    work.model /= "transformer"
    work.refused("give a whole diffusers pipeline folder")
