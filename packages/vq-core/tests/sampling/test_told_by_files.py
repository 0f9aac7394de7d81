"""What scheduler, experts, VAE and image encoder of a model tell, and which values are refused."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vq_core.errors import VqError
from vq_core.sampling.told_by_files import told_by

SCHEDULER = "scheduler/scheduler_config.json"
PAIR = {"transformer": ["diffusers", "T"], "transformer_2": ["diffusers", "T"]}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    """`write({file: content})`: a model with these JSON files."""

    def put(files: dict[str, Any], root: str = "model") -> Path:
        for name, content in files.items():
            path = tmp_path / root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
        return tmp_path / root

    return put


def test_every_pipeline_tells_all_of_it(tiny_model: Callable[[str], Path]) -> None:
    assert told_by(tiny_model("i2v")) == {"flow_shift": 3.0, "vae_stride": [4, 8, 8], "image_tokens": 17}
    assert told_by(tiny_model("t2v-distilled")) == {"flow_shift": 5.0, "vae_stride": [4, 8, 8]}
    assert told_by(tiny_model("ti2v-5b")) == {"flow_shift": 3.0, "vae_stride": [4, 16, 16]}
    pair = {"flow_shift": 3.0, "vae_stride": [4, 8, 8], "boundary_ratio": 0.9, "experts": 2}
    assert told_by(tiny_model("i2v-2.2")) == pair
    assert told_by(tiny_model("i2v-2.2") / "transformer") == pair  # of one expert as of both
    file = next((tiny_model("i2v-2.2") / "transformer_2").glob("*.safetensors"))
    assert told_by(file) == pair


def test_a_folder_of_wan_ai_tells_nothing(write: Callable[..., Path]) -> None:
    assert told_by(write({"config.json": {"dim": 64}})) == {}


@pytest.mark.parametrize(
    ("scheduler", "shift"),
    [({"flow_shift": 8}, 8.0), ({"shift": 7.0}, 7.0), ({"flow_shift": 3.0, "shift": 1.0}, 3.0), ({"order": 2}, None)],
)
def test_the_shift_has_the_name_that_the_scheduler_gives_it(
    write: Callable[..., Path], scheduler: dict[str, Any], shift: float | None
) -> None:
    assert told_by(write({SCHEDULER: scheduler})) == {"flow_shift": shift}


@pytest.mark.parametrize(
    ("files", "given"),
    [
        ({"model_index.json": PAIR}, "."),
        ({"model_index.json": {"transformer": ["d", "T"], "boundary_ratio": 0.9}}, "."),
        ({"model_index.json": PAIR, "transformer/config.json": {}}, "transformer"),
        ({"transformer/config.json": {}, "transformer_2/config.json": {}}, "transformer"),
        ({"high_noise_model/config.json": {}, "low_noise_model/config.json": {}}, "."),
        ({"high_noise_model/config.json": {}}, "high_noise_model"),
        ({"wan2.2_t2v_A14b_low_noise_4step.safetensors": {}}, "wan2.2_t2v_A14b_low_noise_4step.safetensors"),
        ({"low_noise_model/model.safetensors": {}}, "low_noise_model/model.safetensors"),
        ({"Wan2_2-T2V-A14B-HighNoise/config.json": {}}, "Wan2_2-T2V-A14B-HighNoise"),
        ({"wan-high-noise/config.json": {}}, "wan-high-noise"),
    ],
)
def test_one_of_two_experts_is_told_by_index_neighbour_or_name(
    write: Callable[..., Path], files: dict[str, Any], given: str
) -> None:
    assert told_by(write(files) / given)["experts"] == 2


@pytest.mark.parametrize(
    ("files", "given"),
    [
        ({"model_index.json": {"transformer": ["d", "T"], "transformer_2": [None, None]}}, "."),
        ({"model_index.json": {"boundary_ratio": None}}, "."),
        ({"transformer/config.json": {}}, "transformer"),
    ],
)
def test_one_transformer_is_one(write: Callable[..., Path], files: dict[str, Any], given: str) -> None:
    assert "experts" not in told_by(write(files) / given)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        (SCHEDULER, {"flow_shift": 0}, "says flow_shift=0, which should be a number above 0: mend it"),
        (SCHEDULER, {"flow_shift": -3.0}, "flow_shift=-3.0"),
        (SCHEDULER, {"flow_shift": "3"}, "flow_shift='3'"),
        (SCHEDULER, {"flow_shift": True}, "flow_shift=True"),
        (SCHEDULER, {"flow_shift": None}, "flow_shift=None"),
        (SCHEDULER, {"flow_shift": math.inf}, "flow_shift=inf|is not JSON"),
        (SCHEDULER, {"flow_shift": math.nan}, "flow_shift=nan|is not JSON"),
        (SCHEDULER, {"flow_shift": 3.0, "use_dynamic_shifting": True}, "says use_dynamic_shifting, and Wan has one"),
        ("model_index.json", {"boundary_ratio": 1}, "says boundary_ratio=1, .* a number above 0 and below 1: mend it"),
        ("model_index.json", {"boundary_ratio": 0.0}, "boundary_ratio=0.0"),
        ("model_index.json", {"boundary_ratio": 900}, "boundary_ratio=900"),
        ("model_index.json", {"boundary_ratio": "0.9"}, "boundary_ratio='0.9'"),
        ("image_encoder/config.json", {"image_size": 224}, "image_size=224 and patch_size=None, which are no sizes"),
        ("image_encoder/config.json", {"image_size": 224, "patch_size": 0}, "patch_size=0"),
        ("vae/config.json", {"scale_factor_spatial": "8"}, "scale_factor_temporal=4 and scale_factor_spatial='8'"),
        ("vae/config.json", {"scale_factor_temporal": 0}, "scale_factor_temporal=0"),
    ],
)
def test_impossible_values_are_refused(
    write: Callable[..., Path], file: str, content: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(VqError, match=sentence) as refusal:
        told_by(write({file: content}))
    assert Path(file).name in str(refusal.value)


@pytest.mark.parametrize("part", ["scheduler", "vae", "image_encoder"])
def test_a_part_without_its_configuration_is_refused(
    tiny_model: Callable[[str], Path], tmp_path: Path, part: str
) -> None:
    model = shutil.copytree(tiny_model("i2v"), tmp_path / "i2v")
    (config,) = (model / part).glob("*config.json")
    config.unlink()
    with pytest.raises(VqError, match=rf"{config.name} is missing: get the whole pipeline"):
        told_by(model)
    config.symlink_to("nowhere")
    with pytest.raises(VqError, match=f"{config} is a link to nowhere, which is missing"):
        told_by(model)
    shutil.rmtree(model / part)
    assert told_by(model).keys() < told_by(tiny_model("i2v")).keys()


def test_an_index_that_cannot_be_read_is_refused(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model("i2v-2.2"), tmp_path / "experts")
    (model / "model_index.json").unlink()
    (model / "model_index.json").symlink_to("nowhere")
    with pytest.raises(VqError, match=r"model_index\.json is a link to nowhere"):
        told_by(model)


def test_clip_within_a_larger_model_is_read_too(write: Callable[..., Path]) -> None:
    vision = {"vision_config": {"image_size": 224, "patch_size": 14}}
    assert told_by(write({"image_encoder/config.json": vision})) == {"image_tokens": 257}
