"""The table of what LightX2V reads, against hand-written counts and names of every variant."""

from typing import Any

import pytest

from vq_export.verify.checks.lightx2v_reads import SCHEMES, Read, number_format, tensors_read

NATIVE: dict[str, Any] = {
    "dim": 64, "ffn_dim": 160, "num_heads": 4, "num_layers": 2, "in_dim": 16, "out_dim": 16, "freq_dim": 16,
    "text_dim": 32, "patch_size": [1, 2, 2], "model_cls": "wan2.1", "task": "t2v",
}  # fmt: skip
IMAGE = {"task": "i2v", "in_dim": 36}
OUTSIDE = 2 + 1 + 2 * 6  # the patch embedding, the head's modulation, six linears
IMAGE_OUTSIDE = 2 * 4  # two norms and two linears
OTHERS = 1 + 4 + 2  # the modulation, four norms of queries and keys, the affine norm


@pytest.mark.parametrize(
    ("change", "outside", "linears", "others"),
    [
        ({}, OUTSIDE, 10, OTHERS),
        (IMAGE, OUTSIDE + IMAGE_OUTSIDE, 12, OTHERS + 1),
        ({"task": "flf2v", "in_dim": 36}, OUTSIDE + IMAGE_OUTSIDE + 1, 12, OTHERS + 1),
        (IMAGE | {"model_cls": "wan2.2_moe", "use_image_encoder": False}, OUTSIDE, 10, OTHERS),
        ({"model_cls": "wan2.2", "in_dim": 48, "out_dim": 48, "use_image_encoder": False}, OUTSIDE, 10, OTHERS),
    ],
    ids=["2.1 t2v", "2.1 i2v", "2.1 flf2v", "2.2 i2v", "ti2v-5b"],
)
@pytest.mark.parametrize("smoothed", [False, True])
def test_every_variant(change: dict[str, Any], outside: int, linears: int, others: int, smoothed: bool) -> None:
    reads = tensors_read(NATIVE | change, "int8", smoothed=smoothed)
    assert len(reads) == outside + 2 * (3 * linears + others + 4 * smoothed)
    assert sum(read.dtypes == ("I8",) for read in reads.values()) == 2 * linears
    assert sum(name.endswith(".weight_scale") for name in reads) == 2 * linears


def test_vace() -> None:
    vace = {"model_cls": "wan2.1_vace", "task": "vace", "vace_layers": [0, 1]}
    reads = tensors_read(NATIVE | vace, "fp8", smoothed=True)
    block = 3 * 10 + OTHERS + 4
    assert len(reads) == OUTSIDE + 2 * block + 2 + 2 * block + 2 * 2 + 2
    assert reads["vace_blocks.1.ffn.2.weight"] == Read((64, 160), ("F8_E4M3",))
    assert reads["vace_blocks.0.affine_norm1.bias"] == Read((64,), ("F32",))
    assert "F32" in reads["vace_blocks.0.before_proj.weight"].dtypes
    assert "vace_blocks.1.before_proj.weight" not in reads
    assert reads["vace_patch_embedding.weight"].shape == (64, 96, 1, 2, 2)


def test_shapes_and_names() -> None:
    reads = tensors_read(NATIVE | IMAGE, "int8", smoothed=False)
    assert reads["blocks.1.ffn.0.weight"] == Read((160, 64), ("I8",))
    assert reads["blocks.1.ffn.0.weight_scale"] == Read((160, 1), ("F32",))
    assert reads["patch_embedding.weight"].shape == (64, 36, 1, 2, 2)
    assert reads["head.head.weight"].shape == (64, 64)
    assert reads["blocks.0.modulation"].shape == (1, 6, 64)
    assert reads["img_emb.proj.0.weight"].fits((1280,))
    assert not reads["img_emb.proj.0.weight"].fits((1280, 1))
    assert not reads["blocks.0.norm3.weight"].fits((32,))


def test_which_kernels_take_one_scale_a_row() -> None:
    assert number_format("int8-vllm") == "int8"
    assert number_format("fp8-torchao") == "fp8"
    assert [number_format(name) for name in ("fp8-pertensor", "nvfp4", "Default", None, "int8-musa")] == [None] * 5
    assert {"vllm", "sgl", "torchao", "q8f"} <= set(SCHEMES["int8"]) & set(SCHEMES["fp8"])
