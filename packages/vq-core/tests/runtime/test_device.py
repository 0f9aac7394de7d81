import pytest
import torch

from vq_core.errors import VqError
from vq_core.runtime.device import resolve_device, runtime_dtype


def test_takes_what_is_asked_for() -> None:
    assert resolve_device("cpu") == "cpu"


@pytest.mark.parametrize(("cuda", "expected"), [(True, "cuda"), (False, "cpu")])
def test_prefers_cuda(monkeypatch: pytest.MonkeyPatch, cuda: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    assert resolve_device(None) == expected


@pytest.mark.parametrize("device", ["tpu", "mps", "cuda:x", ""])
def test_refuses_an_unknown_device(device: str) -> None:
    with pytest.raises(VqError, match=f"`{device}` is not a supported device: choose cpu, cuda or cuda:N"):
        resolve_device(device)


@pytest.mark.parametrize(("count", "device"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2")])
def test_refuses_a_device_that_is_not_there(monkeypatch: pytest.MonkeyPatch, count: int, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    with pytest.raises(
        VqError, match=f"`{device}` is not in this machine, which has {count} CUDA devices: use --device cpu"
    ):
        resolve_device(device)


def launch(
    monkeypatch: pytest.MonkeyPatch, count: int, *, rank: int, local_rank: int, local_world_size: int
) -> list[str]:
    """Be one of 8 processes on a machine with `count` GPUs; the devices that are made current follow."""
    sizes = {"WORLD_SIZE": 8, "RANK": rank, "LOCAL_RANK": local_rank, "LOCAL_WORLD_SIZE": local_world_size}
    for name, value in sizes.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    current: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    return current


@pytest.mark.parametrize("asked", [None, "cuda", "cuda:1"])
def test_every_process_of_a_machine_has_its_own_gpu(asked: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    current = launch(monkeypatch, 4, rank=5, local_rank=1, local_world_size=4)
    assert resolve_device(asked) == "cuda:1"
    assert current == ["cuda:1"]
    assert resolve_device("cpu") == "cpu"


def test_one_gpu_for_all_processes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, 4, rank=5, local_rank=1, local_world_size=4)
    with pytest.raises(
        VqError, match=r"`cuda:3` is one device for all 4 processes of this machine: use --device cuda,"
    ):
        resolve_device("cuda:3")


def test_a_machine_of_each_process_leaves_the_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, 4, rank=5, local_rank=0, local_world_size=1)
    assert [resolve_device(asked) for asked in (None, "cuda", "cuda:3")] == ["cuda:0", "cuda:0", "cuda:3"]


def test_fewer_gpus_than_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, 1, rank=5, local_rank=1, local_world_size=4)
    with pytest.raises(
        VqError, match=r"Process 1 of this machine has no GPU of its own \(GPUs here: 1\): start one process per GPU"
    ):
        resolve_device("cuda")


def test_processes_without_gpus_use_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    launch(monkeypatch, 0, rank=5, local_rank=1, local_world_size=4)
    assert resolve_device(None) == "cpu"


def test_values_are_in_bfloat16_on_a_gpu_alone() -> None:
    assert [runtime_dtype(device) for device in ("cpu", "cuda:1")] == [torch.float32, torch.bfloat16]
