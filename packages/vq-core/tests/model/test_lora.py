"""Merged weights are the literal formula's, whatever the file's spelling; what cannot be merged is refused by name."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from vq_core.errors import VqError
from vq_core.files.tensor_folder import INDEX_FILE
from vq_core.model.lora import Lora, Merge
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import SourceTransformer, open_source

TO_Q = "blocks.1.attn1.to_q.weight"
RANK = 4

OpenMerged = Callable[..., SourceTransformer]


def low_rank(stem: str, rows: int, columns: int, alpha: float | None = None, seed: int = 1) -> dict[str, Tensor]:
    """A pair in kohya's spelling for the module `stem`."""
    generator = torch.Generator().manual_seed(seed)
    pair = {
        f"{stem}.lora_down.weight": torch.randn(RANK, columns, generator=generator),
        f"{stem}.lora_up.weight": torch.randn(rows, RANK, generator=generator),
    }
    return pair if alpha is None else pair | {f"{stem}.alpha": torch.tensor(alpha)}


def product(pair: Mapping[str, Tensor]) -> Tensor:
    """B·A in float64."""
    down, up = (next(t for key, t in pair.items() if part in key).double() for part in ("down", "up"))
    return up @ down


@pytest.fixture
def folder(tmp_path: Path, i2v_config: dict[str, Any], random_tensors: Any, write_transformer: Any) -> Path:
    """A transformer in float32."""
    path: Path = write_transformer(tmp_path / "model", i2v_config, random_tensors(i2v_config, torch.float32), shards=2)
    return path


@pytest.fixture
def write_lora(tmp_path: Path) -> Callable[..., Path]:
    def write(tensors: Mapping[str, Tensor], name: str = "lora.safetensors", **metadata: str) -> Path:
        save_file(dict(tensors), tmp_path / name, metadata=metadata or None)
        return tmp_path / name

    return write


@pytest.fixture
def merged(folder: Path, write_lora: Callable[..., Path]) -> OpenMerged:
    """The transformer with LoRA files of these tensors merged, all of one strength."""

    def open_merged(*files: Mapping[str, Tensor], strength: float = 1.0, model: Path = folder) -> SourceTransformer:
        paths = [write_lora(tensors, f"{index}.safetensors") for index, tensors in enumerate(files)]
        return open_source(str(model), [LoraRequest(path, strength) for path in paths]).components["transformer"]

    return open_merged


def plain(folder: Path) -> SourceTransformer:
    """The transformer without a LoRA."""
    return open_source(str(folder)).components["transformer"]


def change(merged: SourceTransformer, folder: Path, name: str) -> Tensor:
    """W' − W in float64."""
    (after,), (before,) = merged.load([name]).values(), plain(folder).load([name]).values()
    assert after.dtype == before.dtype
    return after.double() - before.double()


def close(ours: Tensor, expected: Tensor) -> bool:
    return torch.allclose(ours, expected.double(), rtol=1e-5, atol=1e-5)


PEFT = "transformer.blocks.1.attn1.to_q"
NATIVE = "diffusion_model.blocks.1.self_attn.q"


@pytest.mark.parametrize("alpha", [None, 1.0, 8.0])
@pytest.mark.parametrize("stem", [PEFT, NATIVE, "lora_unet_blocks_1_self_attn_q"])
def test_a_low_rank_pair(merged: OpenMerged, folder: Path, stem: str, alpha: float | None) -> None:
    pair = low_rank(stem, 64, 64, alpha)
    checkpoint = merged(pair, strength=0.5)
    factor = 0.5 * (1.0 if alpha is None else alpha / RANK)
    assert checkpoint.merged == (TO_Q,)
    assert close(change(checkpoint, folder, TO_Q), factor * product(pair))


def test_what_is_not_changed_is_read_as_it_was(merged: OpenMerged, folder: Path) -> None:
    original, checkpoint = plain(folder), merged(low_rank(NATIVE, 64, 64))
    before, after = (it.load(original.topology.tensors) for it in (original, checkpoint))
    assert [name for name in before if not torch.equal(before[name], after[name])] == [TO_Q]


def test_differences_of_weights_biases_norms_and_modulation(merged: OpenMerged, folder: Path) -> None:
    diffs = {
        "diffusion_model.blocks.0.ffn.0.diff": ("blocks.0.ffn.net.0.proj.weight", torch.randn(160, 64)),
        "diffusion_model.blocks.0.ffn.0.diff_b": ("blocks.0.ffn.net.0.proj.bias", torch.randn(160)),
        "diffusion_model.blocks.0.norm3.diff": ("blocks.0.norm2.weight", torch.randn(64)),
        "diffusion_model.blocks.0.norm3.diff_b": ("blocks.0.norm2.bias", torch.randn(64)),
        "diffusion_model.blocks.0.self_attn.norm_q.diff": ("blocks.0.attn1.norm_q.weight", torch.randn(64)),
        "diffusion_model.blocks.0.diff_m": ("blocks.0.scale_shift_table", torch.randn(1, 6, 64)),
        "diffusion_model.blocks.1.diff_m": ("blocks.1.scale_shift_table", torch.randn(6, 64)),
        "diffusion_model.head.diff_m": ("scale_shift_table", torch.randn(1, 2, 64)),
        "diffusion_model.patch_embedding.diff": ("patch_embedding.weight", torch.randn(64, 36, 1, 2, 2)),
    }
    checkpoint = merged({key: tensor for key, (_, tensor) in diffs.items()}, strength=-0.5)
    assert set(checkpoint.merged) == {name for name, _ in diffs.values()}
    for name, diff in diffs.values():
        ours = change(checkpoint, folder, name)
        assert close(ours, -0.5 * diff.reshape(ours.shape)), name


def test_a_pair_a_difference_and_two_files_add_up(merged: OpenMerged, folder: Path) -> None:
    first = low_rank(NATIVE, 64, 64, alpha=2.0) | {f"{NATIVE}.diff": torch.randn(64, 64)}
    second = low_rank(PEFT, 64, 64, seed=2)
    ours = change(merged(first, second, strength=0.7), folder, TO_Q)
    assert close(ours, 0.7 * (product(first) * 2 / RANK + first[f"{NATIVE}.diff"].double() + product(second)))


def test_the_bias_of_b_is_scaled_as_b_is(merged: OpenMerged, folder: Path) -> None:
    bias = torch.randn(64)
    checkpoint = merged(low_rank(PEFT, 64, 64, alpha=8.0) | {f"{PEFT}.lora_B.bias": bias}, strength=0.5)
    assert close(change(checkpoint, folder, "blocks.1.attn1.to_q.bias"), 0.5 * 8 / RANK * bias)


def test_a_convolution_s_pair(merged: OpenMerged, folder: Path) -> None:
    down, up = torch.randn(RANK, 36, 1, 2, 2), torch.randn(64, RANK, 1, 1, 1)
    stem = "lora_unet_patch_embedding"
    checkpoint = merged({f"{stem}.lora_down.weight": down, f"{stem}.lora_up.weight": up})
    expected = torch.einsum("orabc,riabc->oiabc", up.double().expand(-1, -1, 1, 2, 2), down.double())
    assert close(change(checkpoint, folder, "patch_embedding.weight"), expected)


@given(strength=st.floats(-2, 2).filter(lambda it: abs(it) > 1e-3), alpha=st.floats(0.25, 64), seed=st.integers(0, 99))
def test_any_strength_and_alpha(
    tmp_path_factory: pytest.TempPathFactory, strength: float, alpha: float, seed: int
) -> None:
    from vq_core.families import wan

    folder = tmp_path_factory.getbasetemp() / "any"
    folder.mkdir(exist_ok=True)
    pair = low_rank("blocks.0.self_attn.q", 16, 16, alpha, seed)
    save_file(pair, folder / "lora.safetensors")
    topology = wan.topology(
        {
            "num_attention_heads": 1, "attention_head_dim": 16, "num_layers": 1, "ffn_dim": 16, "in_channels": 16,
            "out_channels": 16, "text_dim": 16, "freq_dim": 16, "patch_size": [1, 2, 2], "eps": 1e-6,
            "qk_norm": "rms_norm_across_heads", "cross_attn_norm": True,
        }
    )  # fmt: skip
    lora = Lora(LoraRequest(folder / "lora.safetensors", strength))
    original = torch.randn(16, 16, generator=torch.Generator().manual_seed(seed + 1))
    before = original.clone()
    ours = Merge([lora], "transformer", topology, wan).apply("blocks.0.attn1.to_q.weight", original)
    expected = before.double() + strength * alpha / RANK * product(pair)
    assert torch.allclose(ours.double(), expected, rtol=1e-5, atol=1e-5 * max(1.0, abs(strength) * alpha))
    assert torch.equal(original, before)


def test_the_sum_is_rounded_once_to_the_stored_dtype(
    merged: OpenMerged, tmp_path: Path, i2v_config: Any, random_tensors: Any, write_transformer: Any
) -> None:
    tensors = random_tensors(i2v_config)
    tensors[TO_Q] = torch.ones(64, 64, dtype=torch.bfloat16)
    half = write_transformer(tmp_path / "half", i2v_config, tensors)
    # Neither of them alone would move 1 to its neighbour in bfloat16, 1 + 1/128.
    small = {f"{NATIVE}.diff": torch.full((64, 64), 0.003)}
    (weight,) = merged(small, small, model=half).load([TO_Q]).values()
    assert weight.dtype == torch.bfloat16
    assert torch.all(weight == 1 + 1 / 128)


# --- what a file or folder says of itself ---------------------------------------------------------


def test_a_folder_as_llmc_takes_it(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "lora").mkdir()
    first, second = low_rank(PEFT, 64, 64), low_rank("transformer.blocks.0.ffn.net.2", 64, 160)
    weight_map = {}
    for name, tensors in (("a.safetensors", first), ("b.safetensors", second)):
        save_file(tensors, tmp_path / "lora" / name)
        weight_map |= dict.fromkeys(tensors, name)
    (tmp_path / "lora" / INDEX_FILE).write_text(json.dumps({"weight_map": weight_map}))
    checkpoint = open_source(str(folder), [LoraRequest(tmp_path / "lora")]).components["transformer"]
    assert close(change(checkpoint, folder, TO_Q), product(first))
    assert close(change(checkpoint, folder, "blocks.0.ffn.net.2.weight"), product(second))


@pytest.mark.parametrize("prefix", ["transformer.", ""])
def test_alpha_in_diffusers_metadata(folder: Path, write_lora: Any, prefix: str) -> None:
    pair = low_rank(PEFT, 64, 64)
    noted = json.dumps({f"{prefix}r": RANK, f"{prefix}lora_alpha": 16, f"{prefix}alpha_pattern": {}})
    path = write_lora(pair, lora_adapter_metadata=noted)
    checkpoint = open_source(str(folder), [LoraRequest(path)]).components["transformer"]
    assert close(change(checkpoint, folder, TO_Q), 16 / RANK * product(pair))


@pytest.mark.parametrize("others_first", [True, False])
def test_metadata_of_other_parts_are_not_the_transformer_s(folder: Path, write_lora: Any, others_first: bool) -> None:
    pair = low_rank(PEFT, 64, 64)
    own: dict[str, Any] = {"transformer.lora_alpha": 32}
    others = {"text_encoder.lora_alpha": 4, "text_encoder.use_dora": True, "transformer_2.lora_alpha": 8}
    noted = others | own if others_first else own | others
    path = write_lora(pair, lora_adapter_metadata=json.dumps(noted))
    checkpoint = open_source(str(folder), [LoraRequest(path)]).components["transformer"]
    assert close(change(checkpoint, folder, TO_Q), 32 / RANK * product(pair))


@pytest.mark.parametrize("whole_folder", [True, False])
def test_alpha_in_peft_s_config(folder: Path, tmp_path: Path, whole_folder: bool) -> None:
    (tmp_path / "adapter").mkdir()
    pair = low_rank("base_model.model.blocks.1.attn1.to_q", 64, 64)
    save_file(pair, tmp_path / "adapter" / "adapter_model.safetensors")
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 2}))
    path = tmp_path / "adapter" if whole_folder else tmp_path / "adapter" / "adapter_model.safetensors"
    checkpoint = open_source(str(folder), [LoraRequest(path)]).components["transformer"]
    assert close(change(checkpoint, folder, TO_Q), 2 / RANK * product(pair))
    before = checkpoint.fingerprint
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 3}))
    assert open_source(str(folder), [LoraRequest(path)]).components["transformer"].fingerprint != before


# --- identity --------------------------------------------------------------------------------------


def test_files_strengths_and_order_make_the_fingerprint(merged: OpenMerged, folder: Path, tmp_path: Path) -> None:
    one, two = low_rank(NATIVE, 64, 64), low_rank(NATIVE, 64, 64, seed=2)
    unmerged = plain(folder).fingerprint
    prints = {
        unmerged,
        merged(one).fingerprint,
        merged(two).fingerprint,
        merged(one, strength=0.5).fingerprint,
        merged(one, two).fingerprint,
        merged(two, one).fingerprint,
    }
    assert len(prints) == 6
    assert merged().fingerprint == unmerged
    (tmp_path / "elsewhere.safetensors").write_bytes((tmp_path / "0.safetensors").read_bytes())
    same = [LoraRequest(tmp_path / name) for name in ("0.safetensors", "elsewhere.safetensors")]
    assert len({open_source(str(folder), [lora]).components["transformer"].fingerprint for lora in same}) == 1


def test_a_manifest_is_told_file_digest_and_strength(merged: OpenMerged, tmp_path: Path) -> None:
    (entry,) = merged(low_rank(NATIVE, 64, 64), strength=0.25).lora
    assert (entry["file"], entry["strength"]) == ("0.safetensors", 0.25)
    assert entry["sha256"] == hashlib.sha256((tmp_path / "0.safetensors").read_bytes()).hexdigest()


def test_experts(tmp_path: Path, write_lora: Any, tiny_model: Any) -> None:
    model = str(tiny_model("i2v-2.2"))
    path = write_lora(low_rank(NATIVE, 64, 64))
    plain = open_source(model).fingerprints
    for component, changed in (("transformer_2", {"transformer_2"}), (None, {"transformer", "transformer_2"})):
        source = open_source(model, [LoraRequest(path, component=component)])
        assert {name for name, part in source.components.items() if part.merged} == changed
        assert {name for name in plain if plain[name] != source.fingerprints[name]} == changed


# --- warned about and refused ----------------------------------------------------------------------


def test_keys_that_match_nothing_are_named_in_one_warning(merged: OpenMerged, caplog: Any) -> None:
    stray = {f"diffusion_model.blocks.{block}.audio.q.lora_A.weight": torch.ones(2, 2) for block in range(2)}
    alone = {"diffusion_model.blocks.0.self_attn.k.alpha": torch.tensor(4.0)}
    with caplog.at_level(logging.DEBUG, logger="vq_core.model.lora"):
        merged(low_rank(NATIVE, 64, 64) | stray | alone | {"lora_te_q.lora_down.weight": torch.ones(1, 1)})
    record, *each = caplog.records
    assert [line.message.split("`")[1] for line in each] == [*stray, "lora_te_q.lora_down.weight", *alone]
    assert "4 of 6 keys match nothing in transformer and are not merged" in record.message
    for pattern in ("`diffusion_model.blocks.N.audio.q.lora_A.weight` (2)", "N.self_attn.k.alpha`", "`lora_te_q."):
        assert pattern in record.message


@pytest.mark.parametrize("native", [True, False])
def test_nothing_is_said_where_all_is_merged(merged: OpenMerged, caplog: Any, native: bool) -> None:
    merged(low_rank(NATIVE if native else PEFT, 64, 64, alpha=1.0))
    assert not caplog.records


DOWN, UP = f"{NATIVE}.lora_down.weight", f"{NATIVE}.lora_up.weight"
PAIR = low_rank(NATIVE, 64, 64)
REFUSALS = {
    "another architecture": (
        {"unet.down.q.lora_A.weight": torch.ones(2, 2)},
        "does not fit .*model: none of its keys .* of transformer",
    ),
    "empty": ({}, "none of its keys"),
    "half a pair": ({UP: PAIR[UP]}, rf"`{UP}` .* has no partner \(down\) for `{TO_Q}`"),
    "the other half": ({DOWN: PAIR[DOWN]}, r"has no partner \(up\)"),
    "other width": (
        {DOWN: torch.ones(RANK, 65), UP: PAIR[UP]},
        rf"does not fit .*: its `{DOWN}` is \[4, 65\] and `{TO_Q}` is",
    ),
    "other height": ({DOWN: PAIR[DOWN], UP: torch.ones(65, RANK)}, rf"does not fit .*: its `{UP}` is"),
    "two ranks": ({DOWN: PAIR[DOWN], UP: torch.ones(64, RANK + 1)}, rf"its `{UP}` is \[64, 5\]"),
    "vectors": ({DOWN: torch.ones(64), UP: torch.ones(64)}, "does not fit"),
    "difference of another shape": (
        {f"{NATIVE}.diff": torch.ones(64, 32)},
        r"` is \[64, 64\], so give a LoRA of this model",
    ),
    "bias of another length": ({f"{NATIVE}.diff_b": torch.ones(32)}, "and `blocks.1.attn1.to_q.bias` is"),
    "bias without a pair": ({f"{NATIVE}.lora_B.bias": torch.ones(64)}, "has no low-rank pair"),
    "one tensor twice": (PAIR | {f"{PEFT}.lora_A.weight": PAIR[DOWN].clone()}, f"both change `{TO_Q}`"),
    "alpha of each row": (PAIR | {f"{NATIVE}.alpha": torch.ones(RANK)}, r"alpha` is \[4\] and"),
    "deeper": (
        PAIR | low_rank("diffusion_model.blocks.7.self_attn.q", 64, 64),
        r"does not fit .*: `diffusion_model\.blocks\.7\..* is about a block that transformer, with its 2, does",
    ),
    "lokr": (PAIR | {f"{NATIVE}.lokr_w1": torch.ones(2, 2)}, "lokr_w1` .* makes it more than"),
    "dora": (PAIR | {f"{NATIVE}.dora_scale": torch.ones(64, 1)}, "dora_scale` .* makes it more than a low-rank pair"),
    "quantized": ({DOWN: PAIR[DOWN].char(), UP: PAIR[UP]}, "is I8: give the LoRA in full or half precision"),
}


@pytest.mark.parametrize(("tensors", "sentence"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refused_by_name(merged: OpenMerged, tensors: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence) as refused:
        merged(tensors)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_when_read(merged: OpenMerged, value: float) -> None:
    checkpoint = merged(PAIR | {UP: torch.full((64, RANK), value)})
    with pytest.raises(VqError, match="lora_up"):
        checkpoint.load([TO_Q])


def test_a_file_that_is_not_there_and_a_transformer_that_is_not(folder: Path, write_lora: Any, tmp_path: Path) -> None:
    with pytest.raises(VqError, match=r"There is no LoRA .*nowhere"):
        open_source(str(folder), [LoraRequest(tmp_path / "nowhere")])
    request = LoraRequest(write_lora(PAIR), component="high_noise")
    with pytest.raises(VqError, match="is for high_noise, and .* has transformer: name one of these"):
        open_source(str(folder), [request])
