"""Parts of a pipeline that are not whole, or not what they should be, are refused before anything is loaded."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoTokenizer, CLIPVisionModel, UMT5EncoderModel

from vq_core.errors import VqError
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.pretrained import (
    load_model,
    load_other,
    load_scheduler,
    load_vae,
    require_files,
    require_fitting,
    require_loadable,
    require_sizes,
    weights_of,
)
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant

CLASSES = {"text_encoder": UMT5EncoderModel, "image_encoder": CLIPVisionModel, "vae": AutoencoderKLWan}
SAMPLING = Sampling(steps=1, height=32, width=32, num_frames=5)


class Program:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


@pytest.fixture
def model(tiny_model: Callable[[Variant], Path], tmp_path: Path) -> Path:
    """A copy to be broken, whose VAE is one file."""
    made = Path(shutil.copytree(tiny_model("i2v"), tmp_path / "model"))
    vae = made / "vae"
    tensors = {name: tensor for path in vae.glob("*.safetensors") for name, tensor in load_file(path).items()}
    for path in vae.glob("*safetensors*"):
        path.unlink()
    save_file(tensors, vae / "diffusion_pytorch_model.safetensors")
    return made


def refusal(model: Path) -> str:
    """Of the first thing that the pipeline is asked for."""
    with pytest.raises(VqError) as caught:
        VideoPipeline(str(model), "cpu").encode([], SAMPLING)
    return str(caught.value)


def test_a_whole_pipeline(model: Path) -> None:
    require_loadable(model)
    for part in ("tokenizer", "scheduler", "image_processor"):
        require_files(model / part)
    for part, model_class in CLASSES.items():
        assert not load_model(model_class, model / part).training
    assert load_vae(model, "cpu", tiling=True).use_tiling
    assert isinstance(load_scheduler(model, "UniPCMultistepScheduler"), UniPCMultistepScheduler)


@pytest.mark.parametrize(
    "missing",
    [
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "scheduler/scheduler_config.json",
        "image_processor/preprocessor_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "image_encoder/config.json",
        "image_encoder/model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ],
)
def test_a_missing_file_is_named(model: Path, missing: str) -> None:
    (model / missing).unlink()
    assert f"{model / missing} is missing: " in refusal(model)


@pytest.mark.parametrize("part", ["scheduler", "image_processor", "text_encoder", "image_encoder", "vae"])
@pytest.mark.parametrize("content", ["{", "[]", '{"a": ' * 3000, '{"num_layers": 1000000000}'])
def test_a_damaged_configuration_is_a_sentence(model: Path, part: str, content: str) -> None:
    (path,) = (model / part).glob("*config.json")
    path.write_text(content)
    assert f"{path}" in refusal(model)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"a": ' * 3000, b"\xff", b'{"model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_is_a_sentence(model: Path, content: bytes) -> None:
    (model / "tokenizer" / "tokenizer.json").write_bytes(content)
    with pytest.raises(VqError, match=r"tokenizer cannot be used \("):
        load_other(AutoTokenizer, model / "tokenizer", trust_remote_code=False)


@pytest.mark.parametrize("part", CLASSES)
def test_pickles_are_refused_and_not_read(model: Path, tmp_path: Path, part: str) -> None:
    (weights,) = (model / part).glob("*.safetensors")
    weights.unlink()
    name = "pytorch_model.bin" if part != "vae" else "diffusion_pytorch_model.bin"
    torch.save(Program(tmp_path / "run"), model / part / name)
    assert (
        f"{model / part} has its weights in {name} and not as safetensors, a format that can carry programs"
        in refusal(model)
    )
    with pytest.raises(VqError, match="convert them to safetensors"):
        load_model(CLASSES[part], model / part)
    assert not (tmp_path / "run").exists()


def test_an_adapter_is_not_loaded_unasked(model: Path, tmp_path: Path) -> None:
    (model / "text_encoder" / "adapter_config.json").write_text('{"base_model_name_or_path": "elsewhere"}')
    torch.save(Program(tmp_path / "run"), model / "text_encoder" / "adapter_model.bin")
    assert "text_encoder holds an adapter (adapter_config.json), which would be loaded unasked" in refusal(model)


def test_programs_of_a_tokenizer_are_not_run(model: Path, tmp_path: Path) -> None:
    path = model / "tokenizer" / "tokenizer_config.json"
    auto_map = {"AutoTokenizer": ["theirs.Tokenizer", "theirs.Tokenizer"]}
    path.write_text(json.dumps({"tokenizer_class": "Theirs", "auto_map": auto_map}))
    (model / "tokenizer" / "theirs.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    with pytest.raises(VqError, match=r"tokenizer cannot be used \("):
        load_other(AutoTokenizer, model / "tokenizer", trust_remote_code=False)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["adapter_config.json", "diffusion_pytorch_model.safetensors.index.json"])
def test_what_cannot_be_read_is_not_taken_for_absent(model: Path, name: str) -> None:
    (model / "vae" / name).symlink_to("nowhere")
    with pytest.raises(VqError, match=name):
        weights_of(model / "vae")


def test_a_variant_alone_is_named(model: Path) -> None:
    weights = model / "vae" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("diffusion_pytorch_model.fp16.safetensors"))
    assert "is missing, and diffusion_pytorch_model.fp16.safetensors is not looked for: give it that name" in refusal(
        model
    )


def test_a_shard_that_is_missing_or_cut_off(model: Path) -> None:
    weights = model / "text_encoder" / "model.safetensors"
    tensors = load_file(weights)
    weight_map = {
        name: f"model-{1 + number % 2:05}-of-00002.safetensors" for number, name in enumerate(sorted(tensors))
    }
    for shard in set(weight_map.values()):
        save_file({name: tensors[name] for name in tensors if weight_map[name] == shard}, weights.with_name(shard))
    weights.unlink()
    index = weights.with_name("model.safetensors.index.json")
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert weights_of(model / "text_encoder").keys() == tensors.keys()
    second = weights.with_name("model-00002-of-00002.safetensors")
    os.truncate(second, second.stat().st_size - 1)
    assert "model-00002-of-00002.safetensors has" in refusal(model)
    second.unlink()
    assert "model-00002-of-00002.safetensors is missing" in refusal(model)
    index.write_text(json.dumps({"weight_map": {"a": "../../x.safetensors"}}))
    assert "which is no file beside it" in refusal(model)


def edited(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    (path,) = folder.glob("*.safetensors")
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


@pytest.mark.parametrize("part", CLASSES)
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_weight_that_is_no_number_is_refused(model: Path, part: str, value: float) -> None:
    def damage(tensors: dict[str, Tensor]) -> None:
        next(tensor for tensor in tensors.values() if tensor.ndim > 1).view(-1)[7] = value

    edited(model / part, damage)
    with pytest.raises(VqError, match=rf"` in \S+{part} has 1 values of \d+ that are NaN or infinite"):
        load_model(CLASSES[part], model / part)


@pytest.mark.parametrize("part", CLASSES)
def test_a_missing_tensor_is_not_made_up(model: Path, part: str) -> None:
    names: list[str] = []
    edited(model / part, lambda tensors: (names.append(max(tensors)), tensors.pop(names[0])))
    with pytest.raises(VqError, match=rf"{part} lacks the tensor `{names[0]}`, which its config\.json asks for"):
        require_loadable(model)


@pytest.mark.parametrize(
    ("part", "key", "value", "sentence"),
    [
        ("text_encoder", "d_model", 64, r"` in \S+text_encoder is \[.*\] and should be \["),
        ("text_encoder", "num_layers", 9, r"text_encoder lacks the tensor `encoder\.block\.2"),
        ("text_encoder", "num_layers", 1, r"`encoder\.block\.\d.* is of a layer that its config\.json leaves out"),
        ("image_encoder", "num_hidden_layers", 1, "is of a layer that its config.json leaves out"),
        ("text_encoder", "num_layers", 10**9, r"`num_layers` in \S+config\.json is 1000000000, and no model has that"),
        ("text_encoder", "vocab_size", 10**15, "and no model has that"),
        ("image_encoder", "hidden_size", 96, r"and should be \["),
        ("image_encoder", "num_hidden_layers", 10**9, "and no model has that"),
        ("text_encoder", "model_type", "clip_vision_model", "is of a clip_vision_model, and should be of a umt5"),
        ("image_encoder", "model_type", 3, "is of a 3, and should be of a clip_vision_model"),
        ("vae", "base_dim", 16, r"and should be \["),
        ("vae", "dim_mult", [10**9], "and no model has that"),
        ("vae", "dim_mult", [1] * 2000, r"`dim_mult` in \S+config\.json has 2000 entries"),
        ("vae", "z_dim", 16.0, "is 16.0, and should be like 16"),
        ("vae", "is_residual", 0, "is 0, and should be like False"),
        ("vae", "dropout", True, "is True, and should be like 0.0"),
        ("vae", "latents_std", 1.0, r"is 1\.0, and should be like \[2\.8184"),
        ("vae", "temperal_downsample", [True, 1], r"is \[True, 1\], and should be like \[False"),
        (
            "vae",
            "z_dim",
            "wide",
            "`z_dim` in .* is 'wide', and should be like 16: get the whole pipeline",
        ),
    ],
)
def test_a_configuration_of_other_sizes(model: Path, part: str, key: str, value: Any, sentence: str) -> None:
    path = model / part / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(VqError, match=sentence):
        require_fitting(CLASSES[part], model / part)


@pytest.mark.parametrize(("part", "other"), [("text_encoder", "vae"), ("image_encoder", "text_encoder")])
def test_the_tensors_of_another_part_are_refused(model: Path, part: str, other: str) -> None:
    (weights,), (others,) = ((model / name).glob("*.safetensors") for name in (part, other))
    shutil.copy(others, weights)
    with pytest.raises(VqError, match=rf"{part} lacks the tensor `\S+`, which its config\.json asks for"):
        require_fitting(CLASSES[part], model / part)


def test_tied_embeddings_may_have_either_name(model: Path) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        tensors["encoder.embed_tokens.weight"] = tensors.pop("shared.weight")

    edited(model / "text_encoder", rename)
    require_fitting(UMT5EncoderModel, model / "text_encoder")


@pytest.mark.parametrize("name", ["NoScheduler", "AutoencoderKLWan", "__name__"])
def test_refuses_a_scheduler_that_diffusers_does_not_have(model: Path, name: str) -> None:
    with pytest.raises(VqError, match=f"has the scheduler {name}, which diffusers does not know"):
        load_scheduler(model, name)


@pytest.mark.parametrize(("key", "value"), [("num_train_timesteps", "1000"), ("disable_corrector", 3)])
def test_refuses_a_scheduler_with_a_value_of_another_type(model: Path, key: str, value: Any) -> None:
    path = model / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(VqError, match=rf"`{key}` in \S+scheduler_config\.json is {value!r}, and should be like "):
        load_scheduler(model, "UniPCMultistepScheduler")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prediction_type": "nlow_prediction"}, "prediction_type given as nlow_prediction"),
        ({"solver_order": -2}, "list assignment index out of range"),
        ({"solver_type": "x"}, "x is not implemented"),
    ],
)
def test_refuses_a_scheduler_that_cannot_take_a_step(model: Path, change: dict[str, Any], reason: str) -> None:
    path = model / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(VqError, match=rf"scheduler cannot be used \({reason}.*\): get the whole pipeline again"):
        load_scheduler(model, "UniPCMultistepScheduler")


@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value):RuntimeWarning")
def test_refuses_a_scheduler_that_gives_infinity(model: Path) -> None:
    path = model / "scheduler" / "scheduler_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"flow_shift": 1e-300}))
    with pytest.raises(VqError, match="scheduler gives NaN or infinity: get"):
        load_scheduler(model, "UniPCMultistepScheduler")


def test_refuses_a_configuration_that_is_no_scheduler_s(model: Path) -> None:
    shutil.copy(model / "tokenizer" / "tokenizer_config.json", model / "scheduler" / "scheduler_config.json")
    with pytest.raises(VqError, match=r"scheduler_config\.json is not one of diffusers' \(it has no `_class_name`\)"):
        load_scheduler(model, "UniPCMultistepScheduler")


def test_unknown_keys_are_ignored_unless_they_are_misspelled(model: Path) -> None:
    path = model / "scheduler" / "scheduler_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"clip_output": False}))
    load_scheduler(model, "UniPCMultistepScheduler")
    path.write_text(json.dumps({"flow_shft" if key == "flow_shift" else key: it for key, it in config.items()}))
    with pytest.raises(VqError, match="has the unknown key `flow_shft`: write `flow_shift`, or get"):
        load_scheduler(model, "UniPCMultistepScheduler")


def test_sizes_may_be_anything_that_models_have(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"vocab_size": 256384, "a": {"b": [1.5, true, null, -1]}, "num_layers": 24}')
    require_sizes(tmp_path / "x.json")


def test_names_behind_a_prefix_are_compared(model: Path) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        for name in list(tensors):
            tensors[f"vision_model.{name.removeprefix('vision_model.')}"] = tensors.pop(name)
        tensors["text_model.x"] = torch.ones(1)

    edited(model / "image_encoder", rename)
    require_fitting(CLIPVisionModel, model / "image_encoder")
    edited(model / "image_encoder", lambda tensors: tensors.pop("vision_model.post_layernorm.bias"))
    with pytest.raises(VqError, match=r"image_encoder lacks the tensor `post_layernorm\.bias`"):
        require_fitting(CLIPVisionModel, model / "image_encoder")
