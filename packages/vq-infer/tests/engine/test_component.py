"""A checkpoint's transformer and random weights are the same to the engine."""

from collections.abc import Callable
from pathlib import Path

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_infer.bench.models.random_weights import RandomWeights
from vq_infer.engine.component import Component


def test_checkpoint_and_random_weights_agree(tiny_model: Callable[[str], Path], convert: Callable[..., Path]) -> None:
    checkpoint = open_checkpoint(convert(tiny_model("i2v"), "int8", smooth=True))
    real: Component = checkpoint.components["transformer"]
    made: Component = RandomWeights(real.config, checkpoint.scheme)
    shapes = [{name: tuple(x.shape) for name, x in part.plain(shard="block_0").items()} for part in (real, made)]
    assert shapes[0] == shapes[1]
    linear = real.topology.linears[0].name
    gain = str(real.topology.gain_of(linear))
    for a, b in zip(real.linear(linear), made.linear(linear), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
    gains = (real.gain(gain), made.gain(gain))
    assert gains[0] is not None
    assert gains[1] is not None
    assert gains[0].shape == gains[1].shape
