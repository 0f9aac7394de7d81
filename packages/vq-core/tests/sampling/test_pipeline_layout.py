import json
import shutil
from pathlib import Path

import pytest

from vq_core.errors import VqError
from vq_core.sampling.pipeline_layout import read_layout
from vq_core.sampling.prompts import FIRST_FRAME, TEXT_ONLY, ModelInputs
from vq_core.testing.tiny_models import Variant, build_tiny


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny("i2v", tmp_path_factory.mktemp("tiny") / "i2v")


@pytest.fixture
def model(built: Path, tmp_path: Path) -> Path:
    """A copy to be broken."""
    return Path(shutil.copytree(built, tmp_path / "model"))


def test_reads_parts_and_grid(model: Path) -> None:
    layout = read_layout(model)
    assert (layout.pipeline_class, layout.scheduler_class) == ("WanImageToVideoPipeline", "UniPCMultistepScheduler")
    assert (layout.transformers, layout.has_image_encoder) == (("transformer",), True)
    assert (layout.height_multiple, layout.width_multiple, layout.frame_multiple) == (16, 16, 4)
    assert layout.inputs == FIRST_FRAME


def test_reads_two_experts(tmp_path: Path) -> None:
    layout = read_layout(build_tiny("i2v-2.2", tmp_path / "model"))
    assert (layout.transformers, layout.boundary_ratio) == (("transformer", "transformer_2"), 0.9)
    assert not layout.has_image_encoder


def test_the_small_vae_of_wan22_has_a_coarser_grid(tmp_path: Path) -> None:
    layout = read_layout(build_tiny("ti2v-5b", tmp_path / "model"))
    assert (layout.height_multiple, layout.width_multiple, layout.frame_multiple) == (32, 32, 4)
    assert layout.expand_timesteps


@pytest.mark.parametrize(
    ("variant", "inputs"),
    [
        ("t2v", TEXT_ONLY),
        ("i2v", FIRST_FRAME),
        ("flf2v", ModelInputs(required=("image", "last_image"))),
        ("vace", ModelInputs(optional=("reference_images", "video", "mask"))),
        ("t2v-2.2", TEXT_ONLY),
        ("i2v-2.2", ModelInputs(required=("image",), optional=("last_image",))),
        ("ti2v-5b", ModelInputs(optional=("image",))),
        ("t2v-distilled", TEXT_ONLY),
    ],
)
def test_knows_what_each_model_makes_videos_from(variant: Variant, inputs: ModelInputs, tmp_path: Path) -> None:
    assert read_layout(build_tiny(variant, tmp_path / "model")).inputs == inputs


def test_refuses_another_pipeline(model: Path) -> None:
    index = model / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"_class_name": "FluxPipeline"}))
    with pytest.raises(
        VqError, match=r"is a FluxPipeline: give .* WanPipeline, WanImageToVideoPipeline or WanVACEPipeline"
    ):
        read_layout(model)


def test_refuses_a_folder_that_is_no_pipeline(model: Path) -> None:
    with pytest.raises(VqError, match=r"transformer/model_index\.json is missing: give a whole diffusers pipeline"):
        read_layout(model / "transformer")


def test_refuses_an_index_that_is_not_json(model: Path) -> None:
    (model / "model_index.json").write_text("{")
    with pytest.raises(VqError, match=r"model_index\.json is not JSON"):
        read_layout(model)


@pytest.mark.parametrize("part", ["vae", "text_encoder", "image_encoder", "transformer"])
def test_refuses_a_missing_part(model: Path, part: str) -> None:
    shutil.rmtree(model / part)
    with pytest.raises(VqError, match=f"lacks the part `{part}`: get the whole pipeline"):
        read_layout(model)
