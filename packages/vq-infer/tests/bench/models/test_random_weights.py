"""Random weights are the same for all who ask, and what the engine makes of them is what diffusers' model has."""

from collections.abc import Callable

import torch

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.numerics.quantize import dequantize, quantize_weight, snr_db
from vq_core.numerics.scheme import FP8, INT8
from vq_infer.bench.models.random_weights import RandomWeights, random_tensor
from vq_infer.bench.models.workload import Workload


def test_same_in_every_process() -> None:
    a, b, other = (random_tensor(name, (8, 16), "cpu") for name in ("x.weight", "x.weight", "y.weight"))
    assert a.dtype is torch.bfloat16
    assert torch.equal(a, b)
    assert not torch.equal(a, other)


def test_variance_keeps_the_scale() -> None:
    weight = random_tensor("x.weight", (512, 256), "cpu").float()
    assert abs(float(weight.var()) * 256 - 1) < 0.02
    assert torch.equal(random_tensor("norm.weight", (4,), "cpu"), torch.ones(4, dtype=torch.bfloat16))
    assert not random_tensor("x.bias", (4,), "cpu").any()


def test_gain_is_folded_into_the_codes(workload: Workload) -> None:
    weights = RandomWeights(workload.config, INT8)
    name = "blocks.0.attn1.to_q"
    gain = weights.gain(str(weights.topology.gain_of(name)))
    assert 0.5 <= float(gain.min()) < 0.9
    assert 1.1 < float(gain.max()) <= 2
    whole = random_tensor(f"{name}.weight", weights.topology.tensors[f"{name}.weight"], "cpu").float()
    restored = dequantize(weights.linear(name)) * gain
    assert float((restored - whole).norm() / whole.norm()) < 0.02


def test_codes_without_a_gain(workload: Workload) -> None:
    name = "blocks.0.ffn.net.2"
    weights = RandomWeights(workload.config, FP8)
    weight = random_tensor(f"{name}.weight", weights.topology.tensors[f"{name}.weight"], "cpu")
    expected = quantize_weight(weight, FP8.weight)
    assert torch.equal(weights.linear(name).codes.view(torch.int8), expected.codes.view(torch.int8))


def test_the_engine_reads_them_like_a_checkpoint(opened: Callable[..., ConvertedCheckpoint]) -> None:
    checkpoint = opened("i2v", smooth=True)
    real = checkpoint.components["transformer"]
    made = RandomWeights(real.config, checkpoint.schemes[0])
    for names in made.topology.plain_shards().values():
        shapes, ours = ({name: x.shape for name, x in part.plain(names).items()} for part in (real, made))
        assert shapes == ours
    linear = real.topology.linears[0].name
    for a, b in zip(real.linear(linear)[:2], made.linear(linear)[:2], strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    rotated = RandomWeights(real.config, checkpoint.schemes[0], 16).linear(linear)
    assert rotated.rotation == 16
    snr = snr_db(dequantize(made.linear(linear)), dequantize(rotated))
    assert snr > 30
    gain, random = (part.gain(str(real.topology.gain_of(linear))) for part in (real, made))
    assert gain is not None
    assert random is not None
    assert gain.shape == random.shape
