import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_core.sampling.pipeline_layout import read_layout
from vq_core.sampling.prompts import FIRST_FRAME, TEXT_ONLY, ModelInputs
from vq_core.testing.tiny_models import Variant

TinyModel = Callable[[Variant], Path]


@pytest.fixture
def model(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A copy to be broken."""
    return Path(shutil.copytree(tiny_model("i2v"), tmp_path / "model"))


def test_reads_parts_and_grid(model: Path) -> None:
    layout = read_layout(model)
    assert (layout.pipeline_class, layout.scheduler_class) == ("WanImageToVideoPipeline", "UniPCMultistepScheduler")
    assert (layout.transformers, layout.has_image_encoder) == (("transformer",), True)
    assert (layout.height_multiple, layout.width_multiple, layout.frame_multiple) == (16, 16, 4)


def test_reads_what_is_particular_to_wan22(tiny_model: TinyModel) -> None:
    experts, small = (read_layout(tiny_model(variant)) for variant in ("i2v-2.2", "ti2v-5b"))
    assert (experts.transformers, experts.boundary_ratio) == (("transformer", "transformer_2"), 0.9)
    assert not experts.has_image_encoder
    assert (small.height_multiple, small.width_multiple, small.frame_multiple) == (32, 32, 4)
    assert small.expand_timesteps


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
def test_knows_what_each_model_makes_videos_from(variant: Variant, inputs: ModelInputs, tiny_model: TinyModel) -> None:
    assert read_layout(tiny_model(variant)).inputs == inputs


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            '{"_class_name": "FluxPipeline"}',
            "is a FluxPipeline: give .* WanPipeline, WanImageToVideoPipeline or WanVACEPipeline",
        ),
        ("{", r"model_index\.json is not JSON"),
        (None, r"model_index\.json is missing: give a whole diffusers pipeline"),
    ],
)
def test_refuses_what_is_no_pipeline_of_wan(tmp_path: Path, content: str | None, sentence: str) -> None:
    if content is not None:
        (tmp_path / "model_index.json").write_text(content)
    with pytest.raises(VqError, match=sentence):
        read_layout(tmp_path)


@pytest.mark.parametrize("part", ["vae", "text_encoder", "image_encoder", "transformer"])
def test_refuses_a_missing_part(model: Path, part: str) -> None:
    shutil.rmtree(model / part)
    with pytest.raises(VqError, match=f"lacks the part `{part}`: get the whole pipeline"):
        read_layout(model)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "changes", "sentence"),
    [
        ("model_index.json", {"image_processor": [None, None]}, "lacks the part `image_processor`"),
        ("model_index.json", {"vae": 3}, "lacks the part `vae`"),
        ("model_index.json", {"vae": ["diffusers"]}, "`vae` in .* is not the library and the class of a part"),
        ("model_index.json", {"boundary_ratio": "high"}, "says boundary_ratio='high', and two experts need a number"),
        ("transformer/config.json", {"_class_name": "Other"}, "transformer is a Other, which no family here"),
        ("transformer/config.json", {"num_layers": 10**9}, "num_layers=1000000000, and whole numbers of 1 to 1024"),
        ("transformer/config.json", {"patch_size": [1, 2]}, r"patch_size=\[1, 2\], and whole numbers"),
        ("vae/config.json", {"scale_factor_spatial": "8"}, "The vae of .* has scale_factor_spatial='8'"),
        ("vae/config.json", {"scale_factor_temporal": 0}, "The vae of .* has scale_factor_temporal=0"),
        ("vae/config.json", {"latents_mean": [0.5] * 15}, r"The vae of .* should have \d+ `latents_mean`"),
        ("vae/config.json", {"latents_std": 2}, r"The vae of .* should have \d+ `latents_std`"),
        ("vae/config.json", {"base_dim": 10**9}, "`base_dim` in .* is 1000000000, and no model has that"),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}, "`num_train_timesteps` in .* no model has"),
    ],
)
def test_refuses_what_does_not_describe_a_pipeline(
    model: Path, file: str, changes: dict[str, Any], sentence: str
) -> None:
    edit(model / file, **changes)
    with pytest.raises(VqError, match=sentence):
        read_layout(model)


def test_refuses_two_experts_without_a_boundary(tiny_model: TinyModel, tmp_path: Path) -> None:
    model = Path(shutil.copytree(tiny_model("i2v-2.2"), tmp_path / "model"))
    edit(model / "model_index.json", boundary_ratio=None)
    with pytest.raises(VqError, match=r"model_index\.json says boundary_ratio=None, and two experts need"):
        read_layout(model)


@pytest.mark.parametrize("entry", ["none", [None, None]])
def test_refuses_a_transformer_without_its_image_encoder(tiny_model: TinyModel, tmp_path: Path, entry: object) -> None:
    model = Path(shutil.copytree(tiny_model("i2v"), tmp_path / "i2v"))
    index = json.loads((model / "model_index.json").read_text()) | {"image_encoder": entry}
    (model / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(VqError, match="reads what an image encoder gives, and model_index.json lists none"):
        read_layout(model)


def test_refuses_what_a_library_would_wait_for(model: Path) -> None:
    os.mkfifo(model / "text_encoder" / "extra.json")
    with pytest.raises(VqError, match=r"extra\.json is a named pipe, and a file is needed there: give one"):
        read_layout(model)


def test_refuses_a_text_that_is_too_large(model: Path) -> None:
    os.truncate(model / "tokenizer" / "tokenizer_config.json", 64 << 30)  # takes no room
    with pytest.raises(VqError, match=r"tokenizer_config\.json is larger than 32 MiB: get the whole pipeline again"):
        read_layout(model)


def test_refuses_an_index_that_leads_out_of_its_folder(model: Path) -> None:
    index = {"weight_map": {"a": "../../secret.safetensors"}}
    (model / "text_encoder" / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(
        VqError, match=r"says that `a` is in '\.\./\.\./secret\.safetensors', which is no file beside it"
    ):
        read_layout(model)
