import pytest

from vq_core.errors import VqError
from vq_core.runtime.process import Process, this_process

TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}


def test_torchrun_s_environment_says_which_process_this_is() -> None:
    assert this_process(TORCHRUN) == Process(5, 8, 1, 4)
    assert not this_process(TORCHRUN).is_alone
    assert not this_process(TORCHRUN).is_first
    assert this_process(TORCHRUN | {"RANK": "0"}).is_first


@pytest.mark.parametrize("environment", [{}, {"WORLD_SIZE": "1"}, dict.fromkeys(TORCHRUN, "0") | {"WORLD_SIZE": "1"}])
def test_a_process_that_nobody_launched_is_alone(environment: dict[str, str]) -> None:
    assert this_process(environment) == Process(0, 1, 0, 1)
    assert Process().is_alone
    assert Process().is_first


@pytest.mark.parametrize("missing", ["RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE"])
def test_half_of_torchrun_s_environment_is_refused(missing: str) -> None:
    environment = {name: value for name, value in TORCHRUN.items() if name != missing}
    with pytest.raises(VqError, match=f"WORLD_SIZE is set and {missing} is not: start the command with torchrun"):
        this_process(environment)


def test_processes_of_a_machine_share_its_memory() -> None:
    assert Process().host_share(80) == 80
    assert Process(5, 16, 5, 8).host_share(80) == 10
