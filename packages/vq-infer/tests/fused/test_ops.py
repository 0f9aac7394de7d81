from dataclasses import fields
from inspect import signature

import pytest
import torch

from vq_infer.fused import ops
from vq_infer.fused.ops import TORCH_OPS, select_ops


def test_the_cpu_runs_plain_torch() -> None:
    assert select_ops(torch.device("cpu")) is TORCH_OPS


def test_both_forms_have_the_same_signatures(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    monkeypatch.setattr(ops, "has_kernels", lambda device: True)
    kernels = select_ops(torch.device("cuda"))
    assert kernels.NAME != TORCH_OPS.NAME
    for field in fields(TORCH_OPS)[1:]:
        ours, plain = (getattr(form, field.name) for form in (kernels, TORCH_OPS))
        assert ours.__name__ == plain.__name__ == field.name
        assert signature(ours) == signature(plain)
