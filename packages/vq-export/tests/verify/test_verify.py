"""Everything that can be wrong with a checkpoint is found, although its manifest says that all is well."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_export.verify.reference import model_reference
from vq_export.verify.verify import verify

INDEX = "diffusion_pytorch_model.safetensors.index.json"
Q = "blocks.1.self_attn.q"
GAIN = "blocks.0.affine_norm3"

Rewrite = Callable[..., Path]


def problems(checkpoint: Path) -> list[str]:
    return verify(open_checkpoint(checkpoint), None).problems


def drop(name: str) -> Callable[[Any], object]:
    """Remove the tensor and its line in the index, so that nothing but its absence is wrong."""

    def edit(content: Any) -> None:
        del content.find(name)[name]
        content.edit_json(INDEX, lambda index: index["weight_map"].pop(name))

    return edit


# --- Sound checkpoints --------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("kind", ["i2v", "t2v", "i2v-2.2", "ti2v-5b"])
def test_a_converted_checkpoint_is_sound(
    checkpoints: dict[str, Path], models: dict[str, Path], kind: str, scheme: str
) -> None:
    checkpoint = open_checkpoint(checkpoints[f"{scheme}-{kind}"])
    found = verify(checkpoint, model_reference(open_source(str(models[kind])), checkpoint))
    assert found.problems == []
    linears, others = (24, 8 * 2 + 23) if kind == "i2v" else (20, 7 * 2 + 15)
    experts = 2 if kind == "i2v-2.2" else 1
    assert found.tensors == experts * (3 * linears + others)
    assert [len(snrs) for snrs in found.weight_snr_db.values()] == [linears] * experts


@pytest.mark.parametrize(("scheme", "least"), [("int8", 30), ("fp8", 28)])
def test_a_smoothed_checkpoint_is_sound(
    checkpoints: dict[str, Path], models: dict[str, Path], scheme: str, least: float
) -> None:
    checkpoint = open_checkpoint(checkpoints[f"{scheme}-smoothed"])
    found = verify(checkpoint, model_reference(open_source(str(models["i2v"])), checkpoint))
    assert found.problems == []
    assert min(found.weight_snr_db["transformer"].values()) > least
    rows = found.rows()
    assert rows["problems"] == "0"
    assert rows["transformer attn2.add_v_proj"].startswith("SNR ")
    assert "(block " in rows["transformer ffn.net.2"]


def test_rewriting_without_an_edit_changes_nothing(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    assert problems(rewrite(checkpoints["int8-smoothed"], lambda content: None)) == []


# --- Structure ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [f"{Q}.weight_scale", f"{Q}.bias", f"{Q}.weight", f"{GAIN}.bias", "head.modulation"])
def test_a_lost_tensor(checkpoints: dict[str, Path], rewrite: Rewrite, name: str) -> None:
    found = problems(rewrite(checkpoints["int8-smoothed"], drop(name)))
    assert found[0].startswith(f"`{name}` is missing in ")
    assert len(found) == 1


def test_an_extra_tensor(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    def edit(content: Any) -> None:
        content.tensors["block_0.safetensors"]["blocks.0.extra.weight"] = torch.ones(2)
        content.edit_json(INDEX, lambda i: i["weight_map"].update({"blocks.0.extra.weight": "block_0.safetensors"}))

    found = problems(rewrite(checkpoints["int8-smoothed"], edit))
    assert found == ["`blocks.0.extra.weight` in block_0.safetensors is nothing that LightX2V reads."]


@pytest.mark.parametrize(
    "file", ["notes.txt", "run_lightx2v.bak", "block_2.safetensors", "low_noise_model/config.json"]
)
def test_an_extra_file(checkpoints: dict[str, Path], rewrite: Rewrite, file: str) -> None:
    def edit(content: Any) -> None:
        if file.endswith(".safetensors"):
            content.tensors[file] = {}
        else:
            content.texts[file] = "{}"

    path = rewrite(checkpoints["int8-smoothed"], edit)
    assert problems(path) == [f"{path / file} is no part of a checkpoint."]


def test_a_tensor_that_is_there_twice(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    def edit(content: Any) -> None:
        content.tensors["non_block.safetensors"][f"{Q}.bias"] = content.find(f"{Q}.bias")[f"{Q}.bias"].clone()

    found = problems(rewrite(checkpoints["int8-smoothed"], edit))
    assert f"`{Q}.bias` is in block_1.safetensors and in non_block.safetensors" in found[0]


def test_a_tensor_in_the_wrong_file(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    def edit(content: Any) -> None:
        content.tensors["block_0.safetensors"][f"{Q}.bias"] = content.find(f"{Q}.bias").pop(f"{Q}.bias")
        content.edit_json(INDEX, lambda index: index["weight_map"].update({f"{Q}.bias": "block_0.safetensors"}))

    found = problems(rewrite(checkpoints["int8-smoothed"], edit))
    assert found == [f"`{Q}.bias` is in block_0.safetensors and belongs in block_1.safetensors."]


def test_a_transposed_weight(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    found = problems(
        rewrite(checkpoints["int8-smoothed"], lambda content: content.change("blocks.0.ffn.0.weight", torch.t))
    )
    assert found == ["`blocks.0.ffn.0.weight` is [64, 160] and should be [160, 64]."]


def test_a_flat_scale(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    found = problems(
        rewrite(checkpoints["int8-smoothed"], lambda content: content.change(f"{Q}.weight_scale", torch.flatten))
    )
    assert found == [f"`{Q}.weight_scale` is [64] and should be [64, 1]."]


@pytest.mark.parametrize(
    ("name", "dtype", "sentence"),
    [
        (f"{Q}.weight", torch.float32, "is F32 and should be I8."),
        (f"{Q}.weight", torch.float8_e4m3fn, "is F8_E4M3 and should be I8."),
        (f"{Q}.weight_scale", torch.bfloat16, "is BF16 and should be F32."),
        (f"{GAIN}.weight", torch.bfloat16, "is BF16 and should be F32."),
        (f"{Q}.bias", torch.float64, "is F64 and should be F32 or BF16 or F16."),
    ],
)
def test_a_wrong_dtype(
    checkpoints: dict[str, Path], rewrite: Rewrite, name: str, dtype: torch.dtype, sentence: str
) -> None:
    found = problems(
        rewrite(checkpoints["int8-smoothed"], lambda content: content.change(name, lambda tensor: tensor.to(dtype)))
    )
    assert found[0] == f"`{name}` {sentence}"


@pytest.mark.parametrize(
    "break_index",
    [
        lambda content: content.texts.pop(INDEX),
        lambda content: content.texts.update({INDEX: "{"}),
        lambda content: content.texts.update({INDEX: "[]"}),
        lambda content: content.edit_json(INDEX, lambda index: index.pop("weight_map")),
        lambda content: content.edit_json(INDEX, lambda index: index["weight_map"].pop(f"{Q}.weight")),
        lambda content: content.edit_json(
            INDEX, lambda index: index["weight_map"].update({f"{Q}.weight": "block_0.safetensors"})
        ),
    ],
    ids=["missing", "no JSON", "no object", "no map", "a line lost", "a wrong file"],
)
def test_a_wrong_index(checkpoints: dict[str, Path], rewrite: Rewrite, break_index: Callable[[Any], object]) -> None:
    path = rewrite(checkpoints["int8-smoothed"], break_index)
    assert problems(path) == [f"{path / INDEX} does not say where the tensors are."]


# --- Values -------------------------------------------------------------------------------------


def test_a_code_that_symmetric_int8_does_not_have(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    found = problems(rewrite(checkpoints["int8-smoothed"], lambda content: content.put(f"{Q}.weight", 5, -128)))
    assert found == [f"`{Q}.weight` of transformer holds the code −128, which symmetric INT8 never has."]


@pytest.mark.parametrize(
    ("made", "name", "value", "sentence"),
    [
        ("int8-smoothed", f"{Q}.weight_scale", 0.0, "holds values that are not positive"),
        ("int8-smoothed", f"{Q}.weight_scale", -0.5, "holds values that are not positive"),
        ("int8-smoothed", f"{Q}.weight_scale", float("nan"), "holds NaN or infinite values"),
        ("int8-smoothed", f"{Q}.weight_scale", 0.1, "holds values that LightX2V's cast to bfloat16 would change"),
        ("fp8-smoothed", f"{Q}.weight", float("nan"), "holds NaN or infinite values"),
        ("fp8-smoothed", "text_embedding.0.weight", float("inf"), "holds NaN or infinite values"),
    ],
)
def test_a_wrong_value(
    checkpoints: dict[str, Path], rewrite: Rewrite, made: str, name: str, value: float, sentence: str
) -> None:
    assert problems(rewrite(checkpoints[made], lambda content: content.put(name, 3, value))) == [
        f"`{name}` of transformer {sentence}."
    ]


def test_a_gain_that_is_no_bfloat16(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    def edit(content: Any) -> None:
        for part in ("weight", "bias"):
            content.put(f"{GAIN}.{part}", 3, 1.001)

    found = problems(rewrite(checkpoints["int8-smoothed"], edit))
    sentence = "of transformer holds values that LightX2V's cast to bfloat16 would change."
    assert found == [f"`{GAIN}.{part}` {sentence}" for part in ("weight", "bias")]


def test_a_gain_that_smooths_scale_and_shift_differently(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    found = problems(rewrite(checkpoints["int8-smoothed"], lambda content: content.put(f"{GAIN}.bias", 3, 8.0)))
    assert found == [
        f"`{GAIN}.weight` and `{GAIN}.bias` of transformer differ: scale and shift would be smoothed differently."
    ]


# --- config.json --------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["config.json", "run_configs/int8-vllm.json", "run_configs/old/int8-vllm.json"])
def test_a_lost_quant_method(checkpoints: dict[str, Path], rewrite: Rewrite, file: str) -> None:
    path = rewrite(
        checkpoints["int8-smoothed"], lambda content: content.edit_json(file, lambda config: config.pop("quant_method"))
    )
    assert [problem.partition(" while")[0] for problem in problems(path)] == [f"{path / file} says quant_method=None"]


@pytest.mark.parametrize("file", ["config.json", "run_configs/int8-vllm.json"])
def test_a_quant_method_without_gains(checkpoints: dict[str, Path], rewrite: Rewrite, file: str) -> None:
    path = rewrite(
        checkpoints["int8-i2v"],
        lambda content: content.edit_json(file, lambda config: config.update(quant_method="advanced_ptq")),
    )
    (problem,) = problems(path)
    assert f"{path / file} says quant_method='advanced_ptq' while the checkpoint has no gains" in problem


@pytest.mark.parametrize("key", ["dim", "ffn_dim", "num_heads", "num_layers", "in_dim", "out_dim", "freq_dim"])
def test_a_native_key_that_is_missing_or_wrong(checkpoints: dict[str, Path], rewrite: Rewrite, key: str) -> None:
    path = rewrite(
        checkpoints["int8-smoothed"],
        lambda content: content.edit_json("config.json", lambda config: config.update({key: None})),
    )
    (problem,) = problems(path)
    assert f"says {key}=None and the model has" in problem


@pytest.mark.parametrize("text", [None, "{", "[]"], ids=["missing", "no JSON", "no object"])
def test_a_config_that_cannot_be_read(checkpoints: dict[str, Path], rewrite: Rewrite, text: str | None) -> None:
    def edit(content: Any) -> None:
        content.texts.pop("config.json")
        if text is not None:
            content.texts["config.json"] = text

    assert len(problems(rewrite(checkpoints["int8-smoothed"], edit))) == 17


# --- Damage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["block_0.safetensors", "non_block.safetensors", "config.json", "run_lightx2v.sh"])
def test_a_flipped_byte_is_refused(checkpoints: dict[str, Path], rewrite: Rewrite, file: str) -> None:
    path = rewrite(checkpoints["int8-smoothed"], lambda content: None) / file
    raw = bytearray(path.read_bytes())
    raw[-2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(VqError, match=f"{file} is not the file that was written"):
        problems(path.parent)


def test_a_truncated_shard_is_refused(checkpoints: dict[str, Path], rewrite: Rewrite) -> None:
    path = rewrite(checkpoints["int8-smoothed"], lambda content: None) / "block_1.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(VqError, match=r"block_1.safetensors has \d+ bytes and should have \d+"):
        problems(path.parent)
