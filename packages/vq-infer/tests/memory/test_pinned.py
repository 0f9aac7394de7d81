"""Tensors in host memory and back, bit for bit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_infer.memory.pinned import ALIGNMENT, SMALLEST_PIECE, PinnedBytes, piece_sizes


def tensors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    wide = torch.randint(-127, 128, (700, 1500), generator=generator, dtype=torch.int8)
    return [
        torch.randn(3, 5, generator=generator),
        wide,
        torch.randn(1500, 700, generator=generator).t().to(torch.float8_e4m3fn),
        torch.randn(7, generator=generator).bfloat16(),
        torch.tensor(4.0),
        torch.empty(0),
    ]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_tensors_come_back_as_they_were(device: str) -> None:
    sources = [tensor.to(device) for tensor in tensors()]
    content = PinnedBytes(sources, pinned=device == "cuda")
    assert len(piece_sizes(content.nbytes)) > 1  # tensors lie across pieces
    memory = torch.full((content.nbytes + 100,), 77, dtype=torch.uint8, device=device)
    content.copy_to(memory)
    for place, source in zip(content.places, sources, strict=True):
        assert place.begin % ALIGNMENT == 0
        found = place.view(memory)
        assert (found.dtype, found.shape) == (source.dtype, source.shape)
        assert torch.equal(found.contiguous().view(torch.uint8) if found.dim() else found, as_bytes(source))
    assert (memory[content.nbytes :] == 77).all()


def as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().view(torch.uint8) if tensor.dim() else tensor


@given(st.integers(0, 1 << 40))
def test_pieces_are_powers_of_two_and_waste_little(nbytes: int) -> None:
    sizes = piece_sizes(nbytes)
    assert all(size.bit_count() == 1 for size in sizes)
    assert nbytes <= sum(sizes) < nbytes + SMALLEST_PIECE
    assert sizes == sorted(sizes, reverse=True)
