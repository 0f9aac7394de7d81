"""Merged weights are the literal formula's, whatever the file's spelling."""

import hashlib
import json
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
from vq_core.model.lora import Merge
from vq_core.model.lora_file import Lora
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


def plain(folder: Path) -> SourceTransformer:
    """The transformer without a LoRA."""
    return open_source(str(folder)).components["transformer"]


def change(merged: SourceTransformer, folder: Path, name: str) -> Tensor:
    """W' − W in float64."""
    (after,), (before,) = merged.plain([name]).values(), plain(folder).plain([name]).values()
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
    before, after = (it.plain(original.topology.tensors) for it in (original, checkpoint))
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


def test_loha_lokr_and_norms_as_lycoris_writes_them(merged: OpenMerged, folder: Path) -> None:
    stem, generator = "lycoris_blocks_1_attn1_to_", torch.Generator().manual_seed(0)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    pairs = {it: random(64, RANK) if it.endswith("a") else random(RANK, 64) for it in ("1_a", "1_b", "2_a", "2_b")}
    w1, w2, a, b = random(8, 4), random(8, 16), random(8, RANK), random(RANK, 16)
    lycoris = {
        **{f"{stem}q.hada_w{it}": pair for it, pair in pairs.items()}, f"{stem}q.alpha": torch.tensor(2.0).bfloat16(),
        f"{stem}k.lokr_w1": w1, f"{stem}k.lokr_w2": w2, f"{stem}k.alpha": torch.tensor(torch.inf),
        f"{stem}v.lokr_w1": w1.clone(), f"{stem}v.lokr_w2_a": a, f"{stem}v.lokr_w2_b": b,
        f"{stem}v.alpha": torch.tensor(2.0),
        "lycoris_blocks_1_norm2.w_norm": (w_norm := random(64)),
        "lycoris_blocks_1_norm2.b_norm": (b_norm := random(64)),
    }  # fmt: skip
    checkpoint = merged(lycoris, strength=0.5)
    expected = {
        TO_Q: 2 / RANK * (pairs["1_a"] @ pairs["1_b"]) * (pairs["2_a"] @ pairs["2_b"]),
        "blocks.1.attn1.to_k.weight": torch.kron(w1, w2),  # whole factors have no rank: alpha means nothing
        "blocks.1.attn1.to_v.weight": 2 / RANK * torch.kron(w1, a @ b),
        "blocks.1.norm2.weight": w_norm,
        "blocks.1.norm2.bias": b_norm,
    }
    assert set(checkpoint.merged) == set(expected)
    for name, delta in expected.items():
        assert close(change(checkpoint, folder, name), 0.5 * delta), name


@pytest.mark.parametrize(("magnitudes", "dim"), [((64, 1), 1), ((64,), 1), ((1, 64), 0)])
def test_dora_as_it_was_trained(merged: OpenMerged, folder: Path, magnitudes: tuple[int, ...], dim: int) -> None:
    """LyCORIS normalises the weights of each output or of each input channel, `wd_on_out`; the shape tells which."""
    pair, magnitude = low_rank(NATIVE, 64, 64, alpha=2.0), torch.rand(magnitudes) + 0.5
    checkpoint = merged(pair | {f"{NATIVE}.dora_scale": magnitude})
    (before,), (after,) = plain(folder).plain([TO_Q]).values(), checkpoint.plain([TO_Q]).values()
    trained = before.double() + 2 / RANK * product(pair)
    expected = magnitude.double().reshape((64, 1) if dim else (1, 64)) * trained / trained.norm(dim=dim, keepdim=True)
    assert close(after.double(), expected)


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


def test_a_sum_beyond_the_dtype_names_the_lora_and_its_strength(
    merged: OpenMerged, tmp_path: Path, i2v_config: Any, random_tensors: Any, write_transformer: Any
) -> None:
    half = write_transformer(tmp_path / "half", i2v_config, random_tensors(i2v_config, torch.float16))
    checkpoint = merged({f"{NATIVE}.diff": torch.ones(64, 64)}, strength=1e6, model=half)
    with pytest.raises(VqError) as refused:
        checkpoint.plain([TO_Q])
    assert str(refused.value) == (
        f"Merged with the LoRA {tmp_path}/0.safetensors at strength 1e+06, `{TO_Q}` of {half} passes 65504, "
        "the largest number of float16: give a smaller strength, or check that the LoRA is whole."
    )


def test_a_weight_that_was_not_finite_before_is_the_model_s(
    merged: OpenMerged, tmp_path: Path, i2v_config: Any, random_tensors: Any, write_transformer: Any
) -> None:
    tensors = random_tensors(i2v_config, torch.float16)
    tensors[TO_Q][0, 0] = torch.inf
    damaged = write_transformer(tmp_path / "damaged", i2v_config, tensors)
    with pytest.raises(VqError, match=rf"`{TO_Q}` in {damaged} has 1 values .* the source is damaged, get it again"):
        merged({f"{NATIVE}.diff": torch.ones(64, 64)}, model=damaged).plain([TO_Q])


def test_the_sum_is_rounded_once_to_the_stored_dtype(
    merged: OpenMerged, tmp_path: Path, i2v_config: Any, random_tensors: Any, write_transformer: Any
) -> None:
    tensors = random_tensors(i2v_config)
    tensors[TO_Q] = torch.ones(64, 64, dtype=torch.bfloat16)
    half = write_transformer(tmp_path / "half", i2v_config, tensors)
    # Neither of them alone would move 1 to its neighbour in bfloat16, 1 + 1/128.
    small = {f"{NATIVE}.diff": torch.full((64, 64), 0.003)}
    (weight,) = merged(small, small, model=half).plain([TO_Q]).values()
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
