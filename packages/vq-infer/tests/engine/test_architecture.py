import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.sampling.pipeline_layout import read_layout
from vq_infer.engine.architecture import require_same_architecture

Folder = Callable[..., Path]


def require(model: Path, checkpoint: Path) -> None:
    require_same_architecture(open_checkpoint(checkpoint), read_layout(model))


def test_the_model_that_it_was_made_from(tiny_model: Folder, converted: Folder) -> None:
    require(tiny_model("i2v-2.2"), converted("i2v-2.2"))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ("i2v-2.2", r"holds transformer and .* has transformer and transformer_2"),
        ("t2v", "made from another model: its transformer has in_channels 36 and .* has 16"),
    ],
)
def test_another_model(model: str, sentence: str, tiny_model: Folder, converted: Folder) -> None:
    with pytest.raises(VqError, match=sentence):
        require(tiny_model(model), converted("i2v"))


def test_pipeline_whose_config_is_damaged(tiny_model: Folder, converted: Folder, tmp_path: Path) -> None:
    model = shutil.copytree(tiny_model("i2v-2.2"), tmp_path / "damaged")
    (model / "transformer_2" / "config.json").write_text("{")
    with pytest.raises(VqError, match=r"transformer_2/config\.json is not JSON"):
        require(model, converted("i2v-2.2"))
