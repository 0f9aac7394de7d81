"""Which kernel runs where, without needing the hardware."""

import pytest

from vq_core.errors import VqError
from vq_core.numerics.scheme import NumberFormat
from vq_infer.kernels import ProductKernel, cpu, cuda_fp8, cuda_int8, select_kernel

INT8, FP8 = NumberFormat.INT8, NumberFormat.FP8_E4M3


@pytest.mark.parametrize(
    ("device", "capability", "fmt", "kernel"),
    [
        ("cpu", None, INT8, cpu),
        ("cpu", None, FP8, cpu),
        ("cuda", (9, 0), FP8, cuda_fp8),
        ("cuda", (8, 9), FP8, cuda_fp8),
        ("cuda", (8, 0), INT8, cuda_int8),
    ],
)
def test_what_runs(device: str, capability: tuple[int, int] | None, fmt: NumberFormat, kernel: ProductKernel) -> None:
    assert select_kernel(device, capability, fmt) is kernel


@pytest.mark.parametrize(
    ("device", "capability", "fmt", "sentence"),
    [
        ("cuda", (8, 6), FP8, r"8\.6 and FP8 needs 8\.9.*--scheme int8, which runs here"),
        ("cuda", (7, 5), FP8, r"7\.5 and 8\.0 is needed"),
        ("cuda", (7, 5), INT8, r"7\.5 and 8\.0 is needed"),
        ("mps", None, INT8, "no kernel runs on `mps`"),
    ],
)
def test_what_does_not(device: str, capability: tuple[int, int] | None, fmt: NumberFormat, sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        select_kernel(device, capability, fmt)


def test_names_tell_kernels_apart() -> None:
    assert len({cpu.NAME, cuda_fp8.NAME, cuda_int8.NAME}) == 3
