"""Artifacts for tests keep what vq-algos promises of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.model.source import open_source
from vq_core.numerics.quantize import quantize_weight
from vq_core.testing.artifacts import write_qparams, write_weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gains_cancel_out_and_unfolded_tensors_stay(
    tiny_model: Callable[..., Path], tmp_path: Path, dtype: torch.dtype
) -> None:
    gains = write_weights(tiny_model("t2v"), tmp_path / "weights", octaves=1.0, dtype=dtype)["transformer"]
    weights = open_weights(tmp_path / "weights").components["transformer"]
    source = open_source(str(tiny_model("t2v"))).components["transformer"]
    query, output = "blocks.1.attn1.to_q", "patch_embedding.weight"
    gain = weights.gain("blocks.1.norm1.gain")
    assert gain is not None
    assert torch.equal(gain, gains["blocks.1.attn1.qkv"])
    assert 0.5 <= float(gain.min()) < 0.7 < 1.4 < float(gain.max()) <= 2
    assert weights.linear(query).dtype == dtype
    torch.testing.assert_close(
        weights.linear(query).float() * gain, source.linear(query).float(), rtol=torch.finfo(dtype).eps, atol=0
    )
    assert torch.equal(weights.plain([output])[output], source.plain([output])[output])


@pytest.mark.parametrize("corrected", [None, "blocks.0.ffn.net.2"])
def test_codes_are_the_nearest_ones_and_biases_are_shifted(
    tiny_model: Callable[..., Path], tmp_path: Path, corrected: str | None
) -> None:
    write_weights(tiny_model("t2v"), tmp_path / "weights", octaves=0)
    qparams = open_qparams(
        write_qparams(tmp_path / "weights", tmp_path / "qparams", "fp8", bias_shift=2.0, corrected=corrected)
    )
    source = open_source(str(tiny_model("t2v"))).components["transformer"]
    for linear in source.topology.linears:
        codes, scale, *_ = qparams.linear("transformer", linear.name)
        expected = quantize_weight(source.linear(linear.name), qparams.scheme_of("transformer", linear.name).weight)
        assert torch.equal(codes.float(), expected.codes.float())
        assert torch.equal(scale, expected.scale)
    assert qparams.replaced("transformer") == ({f"{corrected}.bias"} if corrected else source.topology.biases)
    name = "blocks.0.ffn.net.2.bias"
    assert torch.equal(qparams.replacements("transformer", [name])[name], source.plain([name])[name].float() + 2.0)
    assert qparams.decisions("transformer").keys() == {linear.name for linear in source.topology.linears}


def test_readers_get_what_producers_lose_in_every_block(tiny_model: Callable[..., Path], tmp_path: Path) -> None:
    write_weights(tiny_model("i2v"), tmp_path / "weights")
    qparams = open_qparams(write_qparams(tmp_path / "weights", tmp_path / "qparams", center=True))
    weights = open_weights(tmp_path / "weights").components["transformer"]
    tensors = qparams.artifact.manifest.components["transformer"].tensors
    embedder = "condition_embedder.text_embedder.linear_2.bias"
    places = {name: entry.file for name, entry in tensors.items() if not name.startswith("blocks.")}
    image = "condition_embedder.image_embedder.norm2.bias"
    assert places == dict.fromkeys((embedder, image, "text.mean", "image.mean"), "transformer/non_block.safetensors")
    text = weights.topology.group_of("blocks.0.attn2.to_k")
    mean = qparams.mean("transformer", text)
    assert mean is not None
    names = [embedder, "blocks.0.attn2.to_k.bias", "blocks.1.attn2.to_k.bias"]
    lost, *found = (
        new - weights.plain([name])[name] for name, new in qparams.replacements("transformer", names).items()
    )
    torch.testing.assert_close(lost, -mean)
    for block, moved in enumerate(found):
        torch.testing.assert_close(
            moved, weights.linear(f"blocks.{block}.attn2.to_k").float() @ mean, rtol=1e-4, atol=1e-4
        )
