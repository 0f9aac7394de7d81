import pytest
from torch import distributed

from vq_core.errors import Unfinished
from vq_core.runtime.distributed import wait_for_all


def test_a_rank_that_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(timeout: object) -> None:
        raise RuntimeError("Rank 1 failed to pass\nand more")

    monkeypatch.setattr(distributed, "monitored_barrier", gone)
    with pytest.raises(Unfinished, match=r"Another process ended .* \(Rank 1 failed to pass\): .* with --resume"):
        wait_for_all()
