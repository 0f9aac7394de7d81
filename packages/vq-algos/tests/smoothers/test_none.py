import torch

from vq_algos.smoothers import none


def test_nothing_is_smoothed() -> None:
    assert torch.equal(none.smoothing(torch.tensor([0.0, 3.0]), torch.tensor([2.0, 0.0]), 0.9), torch.ones(2))


def test_it_needs_no_statistics() -> None:
    assert not none.NEEDS_STATISTICS
