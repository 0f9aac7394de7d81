from inspect import signature

import torch

from vq_infer.fused.ops import TorchOps, select_ops

OPERATIONS = ("norm_quantize", "sum_quantize", "gelu_quantize", "norm_rope", "gated_sum")


def test_the_cpu_runs_plain_torch() -> None:
    assert isinstance(select_ops(torch.device("cpu")), TorchOps)


def test_both_forms_have_the_same_signatures() -> None:
    from vq_infer.fused.triton_ops import TritonOps

    for name in OPERATIONS:
        assert signature(getattr(TorchOps, name)) == signature(getattr(TritonOps, name))
    assert TorchOps.NAME != TritonOps.NAME
