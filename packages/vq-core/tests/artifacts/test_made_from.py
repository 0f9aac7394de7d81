"""A checkpoint is run with the model that it was made from, as far as that can be known."""

import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from vq_core.artifacts.checkpoint import FORMAT, KIND, ConvertedCheckpoint, open_checkpoint
from vq_core.artifacts.components import model_header
from vq_core.artifacts.made_from import require_made_from
from vq_core.errors import VqError
from vq_core.model.source import SourceTransformer, open_source
from vq_core.store.writer import create_artifact

LORA = {"file": "style.safetensors", "sha256": "0" * 64, "strength": 0.5}

TinyModel = Callable[[str], Path]


@pytest.fixture
def made(tiny_model: TinyModel, tmp_path: Path) -> Callable[..., ConvertedCheckpoint]:
    """`made(name="x")`: a checkpoint of the tiny t2v, by this name; nothing but its manifest is there."""
    numbers = count()

    def make(name: str | None = None, method: str = "rtn", *, lora: bool = False) -> ConvertedCheckpoint:
        model = str(tiny_model("t2v"))
        source = open_source(model)
        with pytest.MonkeyPatch.context() as patched:
            if lora:
                patched.setattr(SourceTransformer, "lora", (LORA,))
                source = open_source(model)
            settings = {"scheme": "int8", "gains": False, "quantize": {"method": method}}
            header = model_header(source, KIND, FORMAT, tool="test", settings=settings)
            header = replace(header, model=name or model)
            path = tmp_path / f"checkpoint-{next(numbers)}"
            with create_artifact(path, header):
                pass
        return open_checkpoint(path)

    return make


@pytest.fixture
def other(tiny_model: TinyModel, tmp_path: Path) -> Path:
    """A model of the same shape with one other weight."""
    model = shutil.copytree(tiny_model("t2v"), tmp_path / "other")
    file = sorted((model / "transformer").glob("*.safetensors"))[0]
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] += 1
    save_file(tensors, file, {"format": "pt"})
    return model


@pytest.mark.parametrize("lora", [False, True])
def test_the_same_weights_are_the_model_whatever_it_is_called(
    made: Callable[..., ConvertedCheckpoint],
    tiny_model: TinyModel,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    lora: bool,
) -> None:
    copy = shutil.copytree(tiny_model("t2v"), tmp_path / "renamed")
    require_made_from(made(name="elsewhere/model", lora=lora), str(copy), copy)
    assert not caplog.records


@pytest.mark.parametrize("name", [None, "elsewhere/model"])
def test_another_model_of_the_same_shape_is_refused(
    made: Callable[..., ConvertedCheckpoint], tiny_model: TinyModel, other: Path, name: str | None
) -> None:
    recorded = name or tiny_model("t2v")
    with pytest.raises(VqError, match=f"checkpoint-0 was made from {recorded}, and {other} is another model: give"):
        require_made_from(made(name=name), str(other), other)


def test_a_model_that_was_changed_is_refused(made: Callable[..., ConvertedCheckpoint], other: Path) -> None:
    with pytest.raises(VqError, match=f"made from {other}, and {other} is another model"):
        require_made_from(made(name=str(other)), str(other), other)


@pytest.mark.parametrize("name", ["fine_tuned.safetensors", "Wan-AI/other", "{tmp_path}/transformer"])
def test_a_fine_tuned_transformer_may_take_the_parts_of_another_model(
    made: Callable[..., ConvertedCheckpoint], other: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / "transformer").mkdir()
    model = shutil.copytree(other, tmp_path / "other-Diffusers")
    require_made_from(made(name=name.format(tmp_path=tmp_path)), str(model), model)
    assert "the transformer in" in caplog.text
    assert "is another one: make sure that the other parts fit" in caplog.text


def test_without_weights_the_names_are_compared(
    made: Callable[..., ConvertedCheckpoint], other: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for file in (other / "transformer").glob("*.safetensors*"):
        file.unlink()
    caplog.set_level(logging.WARNING)
    require_made_from(made(name="/elsewhere/other"), str(other), other)
    assert not caplog.records
    require_made_from(made(name="/elsewhere/model"), str(other), other)
    assert f"was made from /elsewhere/model, and nothing in {other} tells whether it is that model" in caplog.text


def test_codes_of_another_tool_say_nothing_of_the_model(
    made: Callable[..., ConvertedCheckpoint], other: Path, caplog: pytest.LogCaptureFixture
) -> None:
    require_made_from(made(name="llmc/out", method="llmc"), str(other), other)
    assert not caplog.records
