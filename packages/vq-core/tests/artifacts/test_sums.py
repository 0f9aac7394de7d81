import torch

from vq_core.artifacts.sums import merge_sums, sum_names, zero_sums
from vq_core.topology import Group

GROUP = Group("g", ("a",), None, 3)


def test_what_sums_start_from() -> None:
    zeros = zero_sums(GROUP, 8)
    assert {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in zeros.items()} == {
        "g.abs_sum": ((8, 2, 3), torch.float64),
        "g.absmax": ((8, 2, 3), torch.float32),
        "g.count": ((8, 2), torch.int64),
        "g.absmax_histogram": ((8, 2, 64), torch.int64),
        "g.crest_histogram": ((8, 2, 16), torch.int64),
    }
    assert not any(tensor.any() for tensor in zeros.values())
    assert sum_names(GROUP) == list(zeros) == list(zero_sums(GROUP))


def test_maxima_are_merged_and_the_rest_is_added() -> None:
    a = {name: torch.full_like(zero, 2) for name, zero in zero_sums(GROUP).items()}
    b = {name: torch.full_like(zero, 5) for name, zero in zero_sums(GROUP).items()}
    merged = merge_sums(a, b | {"other": torch.ones(1)})
    assert merged.keys() == a.keys()
    for name, tensor in merged.items():
        assert torch.equal(tensor, torch.full_like(tensor, 5 if name == "g.absmax" else 7))
