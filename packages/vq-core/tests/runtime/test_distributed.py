import pytest
import torch
from torch import distributed

from vq_core.errors import Unfinished
from vq_core.runtime.distributed import Rank, rank_of, wait_for_all


def test_the_rank_comes_from_torchrun_s_environment() -> None:
    assert rank_of({}) is None
    assert rank_of({"WORLD_SIZE": "1", "RANK": "0", "LOCAL_RANK": "0"}) is None
    assert rank_of({"WORLD_SIZE": "8", "RANK": "5", "LOCAL_RANK": "1"}) == Rank(5, 8, 1)


@pytest.mark.parametrize(
    ("cuda", "asked", "device"), [(True, None, "cuda:1"), (True, "cuda:7", "cuda:7"), (False, None, None)]
)
def test_every_process_has_its_own_gpu(
    cuda: bool, asked: str | None, device: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert Rank(5, 8, 1).device(asked) == device


def test_a_rank_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(timeout: object) -> None:
        raise RuntimeError("Rank 1 failed to pass\nand more")

    monkeypatch.setattr(distributed, "monitored_barrier", gone)
    with pytest.raises(Unfinished, match=r"Another process ended .* \(Rank 1 failed to pass\): .* with --resume"):
        wait_for_all()
