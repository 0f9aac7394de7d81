import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.sampling.pipeline_layout import read_layout
from vq_infer.engine.architecture import require_same_architecture

TinyModel = Callable[[str], Path]
Convert = Callable[..., Path]


def require(model: Path, checkpoint: Path) -> None:
    require_same_architecture(open_checkpoint(checkpoint), read_layout(model))


def test_the_model_that_it_was_made_from(tiny_model: TinyModel, convert: Convert) -> None:
    require(tiny_model("i2v-2.2"), convert(tiny_model("i2v-2.2")))


def test_checkpoint_of_a_model_with_other_transformers(tiny_model: TinyModel, convert: Convert) -> None:
    with pytest.raises(VqError, match=r"holds transformer and .* has transformer and transformer_2"):
        require(tiny_model("i2v-2.2"), convert(tiny_model("i2v")))


def test_checkpoint_of_another_architecture(tiny_model: TinyModel, convert: Convert) -> None:
    with pytest.raises(VqError, match="made from another model: its transformer has in_channels 36 and .* has 16"):
        require(tiny_model("t2v"), convert(tiny_model("i2v")))


def test_pipeline_whose_config_is_damaged(tiny_model: TinyModel, convert: Convert, tmp_path: Path) -> None:
    checkpoint = convert(tiny_model("i2v-2.2"))
    model = shutil.copytree(tiny_model("i2v-2.2"), tmp_path / "damaged")
    (model / "transformer_2" / "config.json").write_text("{")
    with pytest.raises(VqError, match=r"transformer_2/config\.json is not JSON"):
        require(model, checkpoint)
