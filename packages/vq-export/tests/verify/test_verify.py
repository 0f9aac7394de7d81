"""What can be wrong with a checkpoint is found, although its manifest says that all is well.

The catalogue in tools/broken_checkpoints, which tests/ runs, says what LightX2V does with each.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_export.verify.reference import model_reference
from vq_export.verify.verification import Verification
from vq_export.verify.verify import verify

INDEX = "diffusion_pytorch_model.safetensors.index.json"
CONFIGS = ("config.json", "run_configs/int8-vllm.json", "run_configs/old/int8-vllm.json")
Q, K = "blocks.1.self_attn.q", "blocks.1.self_attn.k"
GAIN = "blocks.0.affine_norm3"
HOLDS = "of transformer holds"
NATIVE = {"dim": 64, "ffn_dim": 160, "num_heads": 4, "num_layers": 2, "in_dim": 36, "out_dim": 16, "freq_dim": 16}

Edit = Callable[[Any], object]
Paths = dict[str, Path]


def verified(path: Path, model: Path | None = None) -> Verification:
    checkpoint = open_checkpoint(path)
    return verify(checkpoint, model_reference(open_source(str(model)), checkpoint) if model else None)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("made", ["i2v", "t2v", "i2v-2.2", "ti2v-5b", "smoothed", "across"])
def test_an_exported_checkpoint_is_sound(checkpoints: Paths, models: Paths, made: str, scheme: str) -> None:
    kind = "i2v" if made in ("smoothed", "across") else made
    found = verified(checkpoints[f"{scheme}-{made}"], models[kind])
    assert found.problems == []
    linears, others = (24, 8 * 2 + 23) if kind == "i2v" else (20, 7 * 2 + 15)
    experts, gains = 2 if kind == "i2v-2.2" else 1, 8 if made in ("smoothed", "across") else 0
    assert found.tensors == experts * (3 * linears + others) + gains
    assert [len(snrs) for snrs in found.weight_snr_db.values()] == [linears] * experts
    assert min(found.weight_snr_db["transformer"].values()) > 28
    rows = found.rows()
    assert rows["problems"] == "0"
    assert rows["transformer attn2.to_v"].startswith("SNR ")
    assert "(block " in rows["transformer ffn.net.2"]


def drop(name: str) -> Edit:
    """Remove the tensor and its line in the index, so that nothing but its absence is wrong."""

    def edit(content: Any) -> None:
        del content.find(name)[name]
        content.edit_json(INDEX, lambda index: index["weight_map"].pop(name))

    return edit


def put(name: str, value: float) -> Edit:
    return lambda content: content.put(name, 3, value)


def change(name: str, edited: Callable[[Tensor], Tensor]) -> Edit:
    return lambda content: content.change(name, edited)


def cast(name: str, dtype: torch.dtype) -> Edit:
    return change(name, lambda tensor: tensor.to(dtype))


def say(file: str, **said: object) -> Edit:
    return lambda content: content.edit_json(file, lambda config: config.update(said))


def list_in(file: str, name: str) -> Edit:
    return lambda content: content.edit_json(INDEX, lambda index: index["weight_map"].update({name: file}))


def add_tensor(content: Any) -> None:
    content.tensors["block_0.safetensors"]["blocks.0.extra.weight"] = torch.ones(2)
    list_in("block_0.safetensors", "blocks.0.extra.weight")(content)


def add_file(file: str) -> Edit:
    def edit(content: Any) -> None:
        if file.endswith(".safetensors"):
            content.tensors[file] = {}
        else:
            content.texts[file] = "{}"

    return edit


def write_twice(content: Any) -> None:
    content.tensors["non_block.safetensors"][f"{Q}.bias"] = content.find(f"{Q}.bias")[f"{Q}.bias"].clone()


def move(content: Any) -> None:
    content.tensors["block_0.safetensors"][f"{Q}.bias"] = content.find(f"{Q}.bias").pop(f"{Q}.bias")
    list_in("block_0.safetensors", f"{Q}.bias")(content)


def put_in_both_gains(content: Any) -> None:
    for part in ("weight", "bias"):
        content.put(f"{GAIN}.{part}", 3, 1.001)


LOST = [f"{Q}.weight_scale", f"{Q}.bias", f"{Q}.weight", f"{GAIN}.bias", "head.modulation"]
EXTRA_FILES = ["notes.txt", "run_lightx2v.bak", "block_2.safetensors", "low_noise_model/config.json"]
WRONG_INDICES: list[Edit] = [
    lambda content: content.texts.pop(INDEX),
    lambda content: content.texts.update({INDEX: "{"}),
    lambda content: content.texts.update({INDEX: "[]"}),
    lambda content: content.edit_json(INDEX, lambda index: index.pop("weight_map")),
    lambda content: content.edit_json(INDEX, lambda index: index["weight_map"].pop(f"{Q}.weight")),
    list_in("block_0.safetensors", f"{Q}.weight"),
]
UNREADABLE: list[Edit] = [
    lambda content: content.texts.pop("config.json"),
    lambda content: content.texts.update({"config.json": "{"}),
    lambda content: content.texts.update({"config.json": "[]"}),
]


OTHER_DTYPES = [(torch.float64, "F64"), (torch.float32, "F32"), (torch.float16, "F16")]


def broken(edit: Edit, sentence: str, count: int = 1, made: str = "int8-smoothed") -> tuple[str, Edit, int, str]:
    """How a checkpoint is broken, and the first of the `count` problems that it then has."""
    return made, edit, count, sentence


BREAKS = [
    *(broken(drop(name), f"`{name}` is missing in CKPT.") for name in LOST),
    broken(add_tensor, "`blocks.0.extra.weight` in block_0.safetensors is nothing that LightX2V reads."),
    *(broken(add_file(file), f"CKPT/{file} is no part of a checkpoint.") for file in EXTRA_FILES),
    broken(write_twice, f"`{Q}.bias` is in block_1.safetensors and in non_block.safetensors: LightX2V takes which", 3),
    broken(move, f"`{Q}.bias` is in block_0.safetensors and belongs in block_1.safetensors."),
    broken(change("blocks.0.ffn.0.weight", torch.t), "`blocks.0.ffn.0.weight` is [64, 160] and should be [160, 64]."),
    broken(change(f"{Q}.weight_scale", torch.flatten), f"`{Q}.weight_scale` is [64] and should be [64, 1]."),
    broken(cast(f"{Q}.weight", torch.float32), f"`{Q}.weight` is F32 and should be I8."),
    broken(cast(f"{Q}.weight", torch.float8_e4m3fn), f"`{Q}.weight` is F8_E4M3 and should be I8."),
    broken(cast(f"{Q}.weight_scale", torch.bfloat16), f"`{Q}.weight_scale` is BF16 and should be F32."),
    broken(cast(f"{GAIN}.weight", torch.bfloat16), f"`{GAIN}.weight` is BF16 and should be F32."),
    *(broken(cast(f"{Q}.bias", it), f"`{Q}.bias` is {name} and should be BF16.") for it, name in OTHER_DTYPES),
    *(broken(edit, f"CKPT/{INDEX} does not say where the tensors are.") for edit in WRONG_INDICES),
    broken(put(f"{Q}.weight", -128), f"`{Q}.weight` {HOLDS} the code −128, which symmetric INT8 never has."),
    broken(put(f"{Q}.weight_scale", 0.0), f"`{Q}.weight_scale` {HOLDS} values that are not positive."),
    broken(put(f"{Q}.weight_scale", -0.5), f"`{Q}.weight_scale` {HOLDS} values that are not positive."),
    broken(put(f"{Q}.weight_scale", float("nan")), f"`{Q}.weight_scale` {HOLDS} NaN or infinite values."),
    broken(put(f"{Q}.weight", float("nan")), f"`{Q}.weight` {HOLDS} NaN or infinite values.", made="fp8-smoothed"),
    broken(put("head.head.weight", float("inf")), f"`head.head.weight` {HOLDS} NaN or infinite values."),
    broken(put(f"{Q}.weight_scale", 0.1), f"`{Q}.weight_scale` {HOLDS} values that a cast to bfloat16 would"),
    broken(put_in_both_gains, f"`{GAIN}.weight` {HOLDS} values that a cast to bfloat16 would change.", 2),
    broken(
        put(f"{GAIN}.bias", 8.0), f"`{GAIN}.weight` and `{GAIN}.bias` of transformer differ, and smooth one input: it"
    ),
    *(broken(say(it, quant_method=None), f"CKPT/{it} says quant_method=None while the checkp") for it in CONFIGS),
    *(
        broken(say(it, quant_method="advanced_ptq"), f"CKPT/{it} says quant_method='advanced_ptq' wh", made="int8-i2v")
        for it in CONFIGS[:2]
    ),
    *(
        broken(say("config.json", **{key: None}), f"CKPT/config.json says {key}=None and the model has {value}.")
        for key, value in NATIVE.items()
    ),
    *(broken(edit, "CKPT/config.json says ", 17) for edit in UNREADABLE),
]


@pytest.mark.parametrize(("made", "edit", "count", "sentence"), BREAKS)
def test_what_is_broken_is_said(
    checkpoints: Paths, rewrite: Callable[..., Path], made: str, edit: Edit, count: int, sentence: str
) -> None:
    path = rewrite(checkpoints[made], edit)
    found = [problem.replace(str(path), "CKPT") for problem in verified(path).problems]
    assert found[0].startswith(sentence)
    assert len(found) == count


@pytest.mark.parametrize(
    ("name", "element"),
    [
        ("time_projection.1.weight", 64 * 64 + 3),
        ("time_projection.1.bias", 3 * 64 + 3),
        ("blocks.1.modulation", 3),
        ("blocks.0.modulation", 4 * 64 + 3),
    ],
)
def test_a_fold_for_all_blocks_that_is_not_whole_is_found(
    checkpoints: Paths, models: Paths, rewrite: Callable[..., Path], name: str, element: int
) -> None:
    def undo(content: Any) -> None:
        content.put(name, element, 2 * float(content.find(name)[name].view(-1)[element]) + 0.5)

    assert verified(rewrite(checkpoints["int8-across"], undo), models["i2v"]).problems != []


def test_rewriting_without_an_edit_changes_nothing(checkpoints: Paths, rewrite: Callable[..., Path]) -> None:
    assert verified(rewrite(checkpoints["int8-smoothed"], lambda content: None)).problems == []


@pytest.mark.parametrize("file", ["block_0.safetensors", "non_block.safetensors", "config.json", "run_lightx2v.sh"])
def test_a_flipped_byte_is_refused(checkpoints: Paths, rewrite: Callable[..., Path], file: str) -> None:
    path = rewrite(checkpoints["int8-smoothed"], lambda content: None) / file
    raw = bytearray(path.read_bytes())
    raw[-2] ^= 1
    path.write_bytes(raw)
    with pytest.raises(VqError, match=f"{file} is not the file that was written"):
        verified(path.parent)


# --- Every tensor is sound by itself, but not that of the model -----------------------------------


def swap(content: Any) -> None:
    tensors = content.find(f"{Q}.weight")
    for part in ("weight", "weight_scale"):
        tensors[f"{Q}.{part}"], tensors[f"{K}.{part}"] = tensors[f"{K}.{part}"], tensors[f"{Q}.{part}"]


def double_one(*names: str) -> Edit:
    def edit(content: Any) -> None:
        for name in names:
            content.put(name, 7, 2 * float(content.find(name)[name].view(-1)[7]))

    return edit


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize(
    ("made", "edit", "linears"),
    [
        ("i2v", swap, {"blocks.1.attn1.to_q", "blocks.1.attn1.to_k"}),
        ("i2v", double_one("blocks.0.ffn.0.weight_scale"), {"blocks.0.ffn.net.0.proj"}),
        ("smoothed", double_one("blocks.0.ffn.0.weight_scale"), {"blocks.0.ffn.net.0.proj"}),
        ("smoothed", double_one(f"{GAIN}.weight", f"{GAIN}.bias"), {"blocks.0.ffn.net.0.proj"}),
        ("smoothed", double_one("blocks.0.cross_attn.v_img.weight_scale"), {"blocks.0.attn2.add_v_proj"}),
    ],
    ids=["swapped", "a scale", "a smoothed scale", "a gain", "an image value's scale"],
)
def test_another_weight_than_the_models_is_found(
    checkpoints: Paths,
    models: Paths,
    rewrite: Callable[..., Path],
    scheme: str,
    made: str,
    edit: Edit,
    linears: set[str],
) -> None:
    path = rewrite(checkpoints[f"{scheme}-{made}"], edit)
    assert verified(path).problems == []
    found = verified(path, models["i2v"])
    assert {problem.split("`")[1] for problem in found.problems if "`" in problem} == linears
    if edit is not swap:  # a doubled row alone would not stand out
        assert all(found.weight_snr_db["transformer"][linear] > 15 for linear in linears)
