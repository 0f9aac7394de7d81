"""Which kernel runs where, without needing the hardware."""

import pytest

from vq_core.errors import VqError
from vq_core.numerics.scheme import NumberFormat
from vq_infer.kernels import cpu, cuda_fp8, cuda_int8, select_kernel


@pytest.mark.parametrize("fmt", NumberFormat)
def test_cpu_runs_both(fmt: NumberFormat) -> None:
    assert select_kernel("cpu", None, fmt) is cpu


def test_hopper_and_ada_run_fp8() -> None:
    assert select_kernel("cuda", (9, 0), NumberFormat.FP8_E4M3) is cuda_fp8
    assert select_kernel("cuda", (8, 9), NumberFormat.FP8_E4M3) is cuda_fp8


def test_ampere_runs_int8() -> None:
    assert select_kernel("cuda", (8, 0), NumberFormat.INT8) is cuda_int8


def test_ampere_does_not_run_fp8_and_is_told_of_int8() -> None:
    with pytest.raises(VqError, match=r"8\.6 and FP8 needs 8\.9.*--scheme int8, which runs here"):
        select_kernel("cuda", (8, 6), NumberFormat.FP8_E4M3)


@pytest.mark.parametrize("fmt", NumberFormat)
def test_turing_runs_neither(fmt: NumberFormat) -> None:
    with pytest.raises(VqError, match=r"7\.5 and 8\.0 is needed"):
        select_kernel("cuda", (7, 5), fmt)


def test_other_devices_are_refused() -> None:
    with pytest.raises(VqError, match="no kernel runs on `mps`"):
        select_kernel("mps", None, NumberFormat.INT8)


def test_names_tell_kernels_apart() -> None:
    assert len({cpu.NAME, cuda_fp8.NAME, cuda_int8.NAME}) == 3
