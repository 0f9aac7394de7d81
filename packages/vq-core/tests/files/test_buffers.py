"""A buffer is lent to one tensor at a time, and to another when that one and all its views are gone."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from vq_core.files.buffers import KEPT, SMALLEST, Buffers


def test_memory_is_used_again_once_nothing_refers_to_it() -> None:
    buffers = Buffers()
    first = buffers.take(4 * SMALLEST)
    place, part = first.data_ptr(), first.view(torch.float32)[3:5]
    del first
    second = buffers.take(2 * SMALLEST)
    assert second.data_ptr() != place  # `part` still is in it
    del part
    third = buffers.take(3 * SMALLEST)
    assert (third.data_ptr(), third.shape, third.dtype) == (place, (3 * SMALLEST,), torch.uint8)


def test_the_smallest_that_fits_is_taken() -> None:
    buffers = Buffers()
    small, large = buffers.take(2 * SMALLEST), buffers.take(4 * SMALLEST)
    places = small.data_ptr(), large.data_ptr()
    del small, large
    assert (buffers.take(SMALLEST).data_ptr(), buffers.take(3 * SMALLEST).data_ptr()) == places


@pytest.mark.parametrize(("buffers", "kept"), [(Buffers(), KEPT), (Buffers(kept=3), 3)])
def test_only_the_largest_are_kept(buffers: Buffers, kept: int) -> None:
    tensors = [buffers.take((1 + index) * SMALLEST) for index in range(5)]
    del tensors
    assert sorted(memory.size // SMALLEST for memory in buffers._free) == [1, 2, 3, 4, 5][-kept:]


def test_small_ones_are_not_kept() -> None:
    buffers = Buffers()
    tensor = buffers.take(10)
    del tensor
    assert buffers._free == []


def test_threads_never_share_a_buffer() -> None:
    buffers = Buffers()

    def fill(value: int) -> bool:
        for _ in range(20):
            tensor = buffers.take(SMALLEST).fill_(value)
            if not bool((tensor == value).all()):
                return False
        return True

    with ThreadPoolExecutor(4) as executor:
        assert all(executor.map(fill, range(8)))
