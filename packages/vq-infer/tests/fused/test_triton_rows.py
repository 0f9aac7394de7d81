import pytest
import torch

triton_rows = pytest.importorskip("vq_infer.fused.triton_rows", reason="Triton is not installed")


@pytest.mark.parametrize("dim", [12, 96, 1536, 3072, 5120, 8960, 13824])
def test_chunks_cover_the_row_with_little_waste(dim: int) -> None:
    options = triton_rows.row_options(dim)
    covered = options["CHUNK"] * options["CHUNKS"]
    assert dim <= covered < dim + options["CHUNK"]
    assert covered <= max(1.1 * dim, 512)
    assert options["CHUNK"] & (options["CHUNK"] - 1) == 0


def test_vectors_that_all_share_have_no_stride() -> None:
    assert triton_rows.vector_strides(torch.zeros(8)) == (0, 0)
    assert triton_rows.vector_strides(torch.zeros(1, 1, 8)) == (0, 0)
    assert triton_rows.vector_strides(torch.zeros(2, 1, 8)) == (8, 0)
    assert triton_rows.vector_strides(torch.zeros(2, 3, 8)) == (24, 8)
