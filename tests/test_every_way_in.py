"""A model is the same model in every layout, on the whole road and back to diffusers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.loaders.single_file_utils import convert_wan_transformer_to_diffusers
from safetensors.torch import save_file
from tests.comparing import FP32_ROUNDING, prediction, relative_error, tensors_in
from torch import nn

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.families.wan import diffusers_config, expert_folders, native_config, to_native
from vq_core.model.source import open_source
from vq_core.testing.tiny_models import VARIANTS, Variant
from vq_eval.videos.variants import apply_smoothed


def bytes_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_native(pipeline: Path, root: Path) -> Path:
    """The transformers of a pipeline as Wan-AI lays them out."""
    source = open_source(str(pipeline))
    for name, folder in expert_folders(tuple(source.components)).items():
        tensors = {to_native(tensor): value for tensor, value in tensors_in(pipeline / name).items()}
        config = native_config(source.components[name].config)
        (root / folder).mkdir(parents=True, exist_ok=True)
        half = list(tensors)[::2]
        save_file(
            {key: tensors[key] for key in half}, root / folder / "diffusion_pytorch_model-00001-of-00002.safetensors"
        )
        rest = {key: tensors[key] for key in tensors if key not in half}
        save_file(rest, root / folder / "diffusion_pytorch_model-00002-of-00002.safetensors")
        (root / folder / "config.json").write_text(json.dumps(config))
    return root


@pytest.fixture
def both(tiny_model: Callable[[Variant], Path], tmp_path: Path) -> Callable[[Variant], tuple[Path, Path]]:
    """`both(variant)`: folders in which `model` is the tiny pipeline, and the same transformers in Wan-AI's layout.

    The pipeline is stripped of what native folders cannot say, so that nothing at all may differ.
    """

    def make(variant: Variant) -> tuple[Path, Path]:
        one, other = tmp_path / "diffusers", tmp_path / "native"
        shutil.copytree(tiny_model(variant), one / "model")
        for part in ("scheduler", "vae", "image_encoder"):
            shutil.rmtree(one / "model" / part, ignore_errors=True)
        index = json.loads((one / "model" / "model_index.json").read_text())
        (one / "model" / "model_index.json").write_text(json.dumps(index | {"boundary_ratio": None}))
        for name, component in open_source(str(one / "model")).components.items():
            config = diffusers_config(component.topology.tensors, native_config(component.config), "here")
            (one / "model" / name / "config.json").write_text(json.dumps(config))
        write_native(one / "model", other / "model")
        return one, other

    return make


@pytest.mark.parametrize("variant", VARIANTS)
def test_our_names_are_those_of_diffusers_own_converter(variant: Variant, both: Any) -> None:
    one, other = both(variant)
    source = open_source(str(other / "model"))
    for name, folder in expert_folders(tuple(source.components)).items():
        theirs = convert_wan_transformer_to_diffusers(tensors_in(other / "model" / folder))
        if "img_emb.emb_pos" in theirs:  # which their converter forgets
            theirs["condition_embedder.image_embedder.pos_embed"] = theirs.pop("img_emb.emb_pos")
        ours = source.components[name].plain(source.components[name].topology.tensors)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[key]) for key, tensor in ours.items())
    assert source.fingerprints == open_source(str(one / "model")).fingerprints


def test_the_offline_stages_write_the_same_bytes_from_either_layout(
    run: Any, both: Any, smoothed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = both("i2v")
    for folder in folders:
        monkeypatch.chdir(folder)
        # The statistics are those of the pipeline that both were made from.
        run("vq-algos smooth", "--model", "model", "--stats", smoothed.parent / "stats", "-o", "smoothed")
        run("vq-algos quantize", "--weights", "smoothed", "--scheme", "int8", "-o", "qparams")
        run("vq-export lightx2v", "--weights", "smoothed", "--qparams", "qparams", "-o", "smoothed-int8")
        run("vq-export lightx2v", "--model", "model", "--scheme", "fp8", "-o", "fp8")
        for checkpoint in ("smoothed-int8", "fp8"):
            assert run("vq-export verify", checkpoint, "--model", "model")["problems"] == []
    for artifact in ("smoothed", "qparams", "smoothed-int8", "fp8"):
        one, other = (bytes_in(folder / artifact) for folder in folders)
        assert one.keys() == other.keys()
        assert [file for file in one if one[file] != other[file]] == []


def test_a_pth_file_gives_the_same_where_it_is_allowed(run: Any, both: Any, tmp_path: Path) -> None:
    _, native = both("t2v")
    (tmp_path / "pth").mkdir()
    shutil.copy(native / "model" / "config.json", tmp_path / "pth")
    torch.save(tensors_in(native / "model"), tmp_path / "pth" / "model.pth")
    smooth = ("vq-algos smooth", "--method", "none", "--model")
    with pytest.raises(VqError, match="add --allow-pth to read its weights and nothing else"):
        run(*smooth, tmp_path / "pth", "-o", tmp_path / "out")
    run(*smooth, tmp_path / "pth", "-o", tmp_path / "out", "--allow-pth")
    run(*smooth, native / "model", "-o", tmp_path / "same")
    one, other = (bytes_in(tmp_path / name) for name in ("out", "same"))
    assert one.keys() == other.keys()
    assert [file for file in one if one[file] != other[file]] == ["manifest.json"]  # which says where it was read


def test_two_experts_convert_to_the_same_bytes(run: Any, both: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folders = both("i2v-2.2")
    for folder in folders:
        monkeypatch.chdir(folder)
        run("vq-export lightx2v", "--model", "model", "--scheme", "int8", "-o", "int8")
    assert bytes_in(folders[0] / "int8") == bytes_in(folders[1] / "int8")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("vq-calib collect", ["--prompts", "PROMPTS"]),
        ("vq-eval fake-quant", ["--prompts", "PROMPTS"]),
        ("vq-infer i2v", ["--checkpoint", "CKPT", "--image", "PROMPTS/image_0.png", "--prompt", "a kite"]),
    ],
)
def test_stages_that_make_videos_say_that_they_need_a_pipeline(
    run: Any, both: Any, prompts: Path, tmp_path: Path, command: str, arguments: list[str]
) -> None:
    _, native = both("i2v")
    run("vq-export lightx2v", "--model", native / "model", "--scheme", "int8", "-o", tmp_path / "ckpt")
    said = [it.replace("PROMPTS", str(prompts)).replace("CKPT", str(tmp_path / "ckpt")) for it in arguments]
    with pytest.raises(VqError, match=r"model_index\.json is missing: give a whole diffusers pipeline folder"):
        run(command, "--model", native / "model", *said, "-o", tmp_path / "out.mp4", "--device", "cpu")


# --- And back ------------------------------------------------------------------------------------


def loaded(folder: Path) -> nn.Module:
    """The transformer as diffusers loads it, which must find all of it and nothing else."""
    architecture = getattr(diffusers, json.loads((folder / "config.json").read_text())["_class_name"])
    model, info = architecture.from_pretrained(folder, torch_dtype=torch.float32, output_loading_info=True)
    assert not any(info.values()), info
    return model.eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_native_becomes_diffusers_bit_by_bit(run: Any, both: Any, tmp_path: Path, variant: Variant) -> None:
    one, other = both(variant)
    run("vq-export diffusers", "--model", other / "model", "-o", tmp_path / "out")
    names = [path.name for path in (one / "model").glob("transformer*")]
    for name in names:
        original, written = tensors_in(one / "model" / name), tmp_path / "out" / (name if len(names) > 1 else "")
        found = tensors_in(written)
        assert found.keys() == original.keys()
        for key, tensor in original.items():
            assert found[key].dtype == tensor.dtype
            assert torch.equal(found[key], tensor)
        assert json.loads((written / "config.json").read_text()) == json.loads(
            (one / "model" / name / "config.json").read_text()
        )
        loaded(written)


def test_a_folded_model_is_the_original_in_diffusers(
    run: Any, tiny_model: Any, original: nn.Module, smoothed: Path, inputs: Any, tmp_path: Path
) -> None:
    run("vq-export diffusers", "--weights", smoothed, "-o", tmp_path / "folded")
    found = prediction(loaded(tmp_path / "folded"), inputs)
    assert relative_error(found, prediction(original, inputs)) < FP32_ROUNDING
    before, after = tensors_in(tiny_model("i2v") / "transformer"), tensors_in(tmp_path / "folded")
    folded = "blocks.0.norm2.weight"  # where diffusers' layout can hold it, smoothing stays
    assert not torch.allclose(after[folded].float(), before[folded].float(), rtol=0.01)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("by", ["--checkpoint", "--weights"])
def test_a_quantized_model_in_diffusers_has_the_function_of_its_codes(
    run: Any, original: nn.Module, smoothed: Path, quantized: Any, inputs: Any, tmp_path: Path, scheme: str, by: str
) -> None:
    """Held against the smoothed model, its gains applied to its norms, with every weight replaced by codes·scale."""
    qparams, checkpoint = (quantized(scheme) / name for name in ("qparams", "ckpt"))
    said = [checkpoint] if by == "--checkpoint" else [smoothed, "--qparams", qparams]
    run("vq-export diffusers", by, *said, "-o", tmp_path / "out")

    before = prediction(original, inputs)
    apply_smoothed(original, open_weights(smoothed).components["transformer"], "cpu")
    component = open_checkpoint(checkpoint).components["transformer"]
    assert relative_error(prediction(original, inputs), before) < FP32_ROUNDING
    for linear in component.topology.linears:
        codes, scale, *_ = component.linear(linear.name)
        find_weight(original, linear.name).data.copy_(codes.float() * scale)
    if by == "--checkpoint":  # which stores the biases of these linears in bfloat16
        for name, parameter in original.named_parameters():
            if name.replace(".linear.", ".") in component.topology.biases:
                parameter.data.copy_(parameter.bfloat16())
    reference, found = prediction(original, inputs), prediction(loaded(tmp_path / "out"), inputs)
    assert relative_error(found, reference) < FP32_ROUNDING
    # So it is as far from the original as the rounding of the weights takes it, and no farther.
    assert relative_error(found, before) <= relative_error(reference, before) + FP32_ROUNDING
    assert relative_error(reference, before) > 10 * FP32_ROUNDING


def find_weight(model: nn.Module, linear: str) -> nn.Parameter:
    """The weight of `linear`, which may be wrapped with the gain of its input."""
    (name,) = (name for name, _ in model.named_parameters() if name.startswith(linear) and name.endswith("weight"))
    return model.get_parameter(name)


def test_a_model_smoothed_by_llmc_is_the_original_in_diffusers(
    run: Any, tiny_model: Any, inputs: Any, tmp_path: Path
) -> None:
    """`save_trans`: W·s, and 1/s beside it, which stock diffusers ignores."""
    folder = tiny_model("i2v") / "transformer"
    tensors = {name: tensor.float() for name, tensor in tensors_in(folder).items()}
    generator = torch.Generator().manual_seed(5)
    for block in range(3):
        for norm, linears in ((1, ("attn1.to_q", "attn1.to_k", "attn1.to_v")), (3, ("ffn.net.0.proj",))):
            s = 0.5 + torch.rand(64, generator=generator)
            tensors |= {f"blocks.{block}.affine_norm{norm}.{part}": 1 / s for part in ("weight", "bias")}
            tensors |= {
                f"blocks.{block}.{linear}.weight": tensors[f"blocks.{block}.{linear}.weight"] * s for linear in linears
            }
    (tmp_path / "trans").mkdir()
    shutil.copy(folder / "config.json", tmp_path / "trans")
    save_file(tensors, tmp_path / "trans" / "diffusion_pytorch_model.safetensors")

    original = prediction(loaded(folder), inputs)
    run("vq-export diffusers", "--model", tmp_path / "trans", "-o", tmp_path / "out")
    assert relative_error(prediction(loaded(tmp_path / "out"), inputs), original) < FP32_ROUNDING

    run("vq-export lightx2v", "--model", tmp_path / "trans", "--scheme", "int8", "-o", tmp_path / "ckpt")
    assert open_checkpoint(tmp_path / "ckpt").has_gains
    assert run("vq-export verify", tmp_path / "ckpt")["problems"] == []
    with pytest.raises(VqError, match="is smoothed already .*: convert it with `vq-export lightx2v --model`"):
        run("vq-algos smooth", "--model", tmp_path / "trans", "--method", "none", "-o", tmp_path / "again")
    assert run("vq-export verify", tmp_path / "ckpt", "--model", tmp_path / "trans")["problems"] == []


def test_a_pipeline_with_llmcs_gains_is_refused_where_it_would_run(
    run: Any, tiny_model: Any, prompts: Path, tmp_path: Path
) -> None:
    pipeline = tmp_path / "pipeline"
    shutil.copytree(tiny_model("i2v"), pipeline)
    gains = {
        f"blocks.{block}.affine_norm{norm}.{part}": torch.full((64,), 2.0)
        for block in range(3)
        for norm in (1, 3)
        for part in ("weight", "bias")
    }
    tensors = tensors_in(pipeline / "transformer") | gains
    for file in (pipeline / "transformer").glob("diffusion_pytorch_model*"):
        file.unlink()
    save_file(tensors, pipeline / "transformer" / "diffusion_pytorch_model.safetensors")
    for command in ("vq-calib collect", "vq-eval fake-quant"):
        with pytest.raises(VqError, match="brings gains of its norms .*, which diffusers does not apply"):
            run(command, "--model", pipeline, "--prompts", prompts, "-o", tmp_path / "out", "--device", "cpu")
