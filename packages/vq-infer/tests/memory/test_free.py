"""Free memory as the system tells it."""

from types import SimpleNamespace

import psutil
import pytest
import torch
from vq_infer.memory.free import free_bytes, host_free_bytes


def test_the_cpu_s_memory_is_the_host_s() -> None:
    total = psutil.virtual_memory().total
    assert 0 < host_free_bytes() < total
    assert 0 < free_bytes(torch.device("cpu")) < total


def test_what_torch_keeps_and_does_not_use_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 7)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 4)
    assert free_bytes(torch.device("cuda", 0)) == 13


def test_processes_of_one_machine_share_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=80))
    assert host_free_bytes() == 80
    for name, value in {"RANK": 3, "WORLD_SIZE": 16, "LOCAL_RANK": 3, "LOCAL_WORLD_SIZE": 8}.items():
        monkeypatch.setenv(name, str(value))
    assert host_free_bytes() == 10
    assert free_bytes(torch.device("cpu")) == 10
