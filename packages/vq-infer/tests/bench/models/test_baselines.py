"""Diffusers' model as the baselines have it."""

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from vq_core.families import wan
from vq_infer.bench.models import baselines
from vq_infer.bench.models.random_weights import random_tensor
from vq_infer.bench.models.workload import Workload

CPU = torch.device("cpu")


def test_every_weight_is_the_random_one(workload: Workload, built: Callable[[str], nn.Module]) -> None:
    model = built("diffusers_eager")
    shapes = wan.topology(workload.config).tensors
    expected = {name: random_tensor(name, shape, "cpu") for name, shape in shapes.items()}
    state = dict(model.named_parameters())
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], tensor.float()) for name, tensor in expected.items())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(buffer.is_meta for buffer in model.buffers())


def test_attention_of_one_model_is_not_that_of_others(workload: Workload) -> None:
    from diffusers.models.attention_dispatch import _AttentionBackendRegistry

    before, _ = _AttentionBackendRegistry.get_active_backend()
    model: Any = baselines.diffusers_model(workload, CPU, "_native_math")
    assert model.blocks[0].attn1.processor._attention_backend == "_native_math"
    assert _AttentionBackendRegistry.get_active_backend()[0] == before != "_native_math"


def test_where_torchao_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    assert baselines.without_torchao(CPU, (8, 9)) == "it is measured on CUDA only"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert baselines.without_torchao(cuda, (8, 9)) == "torchao is not installed"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert baselines.without_torchao(cuda, (8, 0)) is None
    assert baselines.without_torchao(cuda, (8, 9)) == "the GPU has compute capability 8.0 and 8.9 is needed"


def test_compiles_the_repeated_block() -> None:
    asked: list[dict[str, bool]] = []
    model: Any = SimpleNamespace(compile_repeated_blocks=lambda **said: asked.append(said))
    assert baselines.compiled(model) is model
    assert asked == [{"fullgraph": True}]


def test_quantizes_the_blocks_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[object, object]] = []
    module = ModuleType("torchao.quantization")
    module.quantize_ = lambda target, config: seen.append((target, config))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchao", ModuleType("torchao"))
    monkeypatch.setitem(sys.modules, "torchao.quantization", module)
    model = nn.Module()
    model.blocks = nn.ModuleList([nn.Linear(2, 2)])
    assert baselines.quantize_with_torchao(model, "config") is model
    assert seen == [(model.blocks, "config")]
