"""What a kernel is told by."""

import pytest

from vq_infer.bench.measuring.kinds import Kind, Launch, Shape, kind_of, kind_range, linear_range, range_kind

SHAPE = Shape(tokens=32760, dim=5120, ffn=13824)
X = (32760, 5120)


@pytest.mark.parametrize(
    ("op", "dims", "kind"),
    [
        ("aten::_scaled_mm", (X, (5120, 15360)), Kind.LINEAR_ATTENTION),
        ("aten::addmm", ((5120,), X, (5120, 5120)), Kind.LINEAR_ATTENTION),
        ("aten::mm", ((65520, 5120), (5120, 5120)), Kind.LINEAR_ATTENTION),  # a batch of two
        ("aten::_int_mm", (X, (5120, 13824)), Kind.LINEAR_FFN),
        ("aten::mm", ((32760, 13824), (13824, 5120)), Kind.LINEAR_FFN),
        ("aten::mm", ((512, 5120), (5120, 10240)), Kind.LINEAR_CONTEXT),
        ("aten::addmm", ((5120,), (512, 4096), (4096, 5120)), Kind.OTHER),
        ("aten::addmm", ((64,), X, (5120, 64)), Kind.OTHER),
        ("aten::_scaled_dot_product_cudnn_attention", ((1, 40, 32760, 128),) * 2, Kind.SELF_ATTENTION),
        (
            "aten::_scaled_dot_product_flash_attention",
            ((1, 40, 32760, 128), (1, 40, 512, 128)),
            Kind.CROSS_ATTENTION,
        ),
        ("aten::convolution", (), Kind.OTHER),
    ],
)
def test_by_operation(op: str, dims: tuple[tuple[int, ...], ...], kind: Kind) -> None:
    assert kind_of(Launch("some_kernel", 1.0, op, dims), SHAPE) is kind


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("triton_poi_fused__to_copy_gelu_3", Kind.GELU),
        ("triton_red_fused_native_layer_norm_mul_1", Kind.NORM),
        ("cudnn_generated_fort_native_sdpa_sm90", Kind.SELF_ATTENTION),
        ("nvjet_tst_128x256", Kind.LINEAR),
        ("void at::native::vectorized_elementwise_kernel<4>", Kind.ELEMENTWISE),
        ("unheard_of", Kind.OTHER),
    ],
)
def test_by_name(name: str, kind: Kind) -> None:
    assert kind_of(Launch(name, 1.0), SHAPE) is kind


def test_innermost_range_decides() -> None:
    around = ("profiler", kind_range(Kind.CROSS_ATTENTION), linear_range(512, 5120, 10240), "Torch-Compiled Region")
    assert kind_of(Launch("_kernel", 1.0, "aten::mm", (X, X), around), SHAPE) is Kind.LINEAR_CONTEXT


@pytest.mark.parametrize("kind", Kind)
def test_ranges_of_kinds(kind: Kind) -> None:
    assert range_kind(kind_range(kind).removeprefix("vq/"), SHAPE) is kind
