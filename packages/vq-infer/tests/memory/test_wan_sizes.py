"""Sizes of the published models."""

from vq_infer.memory.needs import GIB
from vq_infer.memory.wan_sizes import wan_sizes


def test_weights_are_as_many_as_published() -> None:
    for name, billions, experts in (("Wan2.1 1.3B", 1.4, 1), ("Wan2.1 14B", 16.4, 1), ("Wan2.2 A14B", 14.3, 2)):
        memory, _ = wan_sizes(2, fused=True)[name]
        assert len(memory.transformers) == experts
        for weights in memory.transformers.values():
            assert abs(weights.total - billions * 1e9) < 0.1 * billions * 1e9


def test_the_encoder_s_weights_follow_the_dtype() -> None:
    half, full = (wan_sizes(itemsize, fused=True)["Wan2.1 14B"][0].encoders for itemsize in (2, 4))
    assert full == 2 * half
    assert 10 * GIB < half < 11 * GIB
