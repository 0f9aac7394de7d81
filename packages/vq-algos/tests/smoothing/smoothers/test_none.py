import torch

from vq_algos.smoothing.smoothers import none
from vq_algos.smoothing.smoothing_problem import SmootherOptions, SmoothingProblem


def test_nothing_is_smoothed_and_nothing_is_needed() -> None:
    problem = SmoothingProblem([torch.tensor([[2.0, 0.0]])], torch.tensor([0.0, 3.0]), torch.tensor([0.0, 1.0]))
    assert torch.equal(none.smoothing(problem, SmootherOptions(0.9)).s, torch.ones(2))
    assert not none.NEEDS
