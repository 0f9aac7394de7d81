"""Which scheme an input's linears get."""

import pytest

from vq_algos.rounding.scheme_choice import RoundedInput, best_scheme
from vq_core.numerics.scheme import FP8, INT8, W4A8, W6A8, QuantScheme

SNRS: dict[str, list[float | None]] = {"w4a8": [20.0, 25.0], "w6a8": [30.0, 31.0], "int8": [35.0, 40.0]}


def _chosen(
    names: list[QuantScheme], snrs: dict[str, list[float | None]], min_snr: float | None
) -> tuple[str, list[str]]:
    tried: list[str] = []

    def rounded(scheme: QuantScheme) -> RoundedInput:
        tried.append(scheme.name)
        return RoundedInput({}, {str(i): {"output_snr_db": snr} for i, snr in enumerate(snrs[scheme.name])})

    return best_scheme(names, rounded, min_snr)[0].name, tried


@pytest.mark.parametrize(
    ("min_snr", "expected", "tried"),
    [
        (15.0, "w4a8", ["w4a8"]),
        (22.0, "w6a8", ["w4a8", "w6a8"]),
        (30.0, "w6a8", ["w4a8", "w6a8"]),
        (31.0, "int8", ["w4a8", "w6a8", "int8"]),
        (90.0, "int8", ["w4a8", "w6a8", "int8"]),
    ],
)
def test_the_fewest_bits_that_keep_the_signal(min_snr: float, expected: str, tried: list[str]) -> None:
    for order in ([W4A8, W6A8, INT8], [INT8, W6A8, W4A8]):
        assert _chosen(order, SNRS, min_snr) == (expected, tried)


@pytest.mark.parametrize(
    ("int8", "fp8", "expected"),
    [
        ([30.0, 30.0], [31.0, 30.0], "fp8"),
        ([30.0, 30.0], [35.0, 29.0], "int8"),
        ([30.0, 30.0], [30.0, 30.0], "int8"),
        ([30.0, None], [35.0, 90.0], "int8"),
        ([30.0, None], [35.0, None], "fp8"),
    ],
)
def test_of_as_many_bits_one_that_no_linear_is_worse_with(
    int8: list[float | None], fp8: list[float | None], expected: str
) -> None:
    assert _chosen([INT8, FP8], {"int8": int8, "fp8": fp8}, None) == (expected, ["int8", "fp8"])
