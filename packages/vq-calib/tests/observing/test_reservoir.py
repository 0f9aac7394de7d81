import pytest
import torch
from torch import Tensor

from vq_calib.observing.reservoir import Reservoir
from vq_calib.planning.calib_prompts import CalibPrompt, SplitRule
from vq_calib.planning.token_plan import Script, ScriptedCall, in_split
from vq_core.sampling.schedule import Call
from vq_core.topology import Group

VIDEO = Group("g", ("a",), None, 3)
TEXT = Group("text", ("b",), None, 2, sequence="text")
CPU = torch.device("cpu")


def _script(split: SplitRule = "fit", *, samples: bool = True) -> Script:
    """Two steps of two branches, of a component whose first step is the sampler's fifth."""
    calls = [
        ScriptedCall(Call(4, 0, 500, 4), torch.tensor([2, 0]), torch.tensor([10, 11])),
        ScriptedCall(Call(4, 1, 500, 4), torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64)),
        ScriptedCall(Call(5, 0, 400, 3), torch.tensor([5]), torch.tensor([7])),
        ScriptedCall(Call(5, 1, 400, 3), torch.tensor([1, 1]), torch.tensor([8, 9])),
    ]
    return Script(CalibPrompt(0, "ab" * 32, 1, split, 6), tuple(calls), samples=samples)


def _video(call: int) -> Tensor:
    return torch.arange(18.0).reshape(6, 3) + 100 * call


def _text(branch: int) -> Tensor:
    """Four tokens: two of them padding."""
    return torch.tensor([[1.0 + branch, 2.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])


def _gather(script: Script, *, take_after_each_step: bool) -> list[dict[str, Tensor]]:
    reservoir = Reservoir((VIDEO, TEXT), script)
    taken = []
    for number, call in enumerate(script.calls):
        reservoir.begin_call(call, CPU)
        reservoir.add(VIDEO, _video(number))
        reservoir.add(TEXT, _text(number % 2))
        if number % 2:
            reservoir.end_step()
            if take_after_each_step:
                taken.append(reservoir.take())
    return taken or [reservoir.take()]


def test_sampled_rows_come_once_and_with_their_positions() -> None:
    (taken,) = _gather(_script(), take_after_each_step=False)
    assert taken["positions"].tolist() == [10, 11, 7, 8, 9]
    expected = torch.stack([_video(0)[2], _video(0)[0], _video(2)[5], _video(3)[1], _video(3)[1]]).bfloat16()
    assert torch.equal(taken["g.sampled"], expected)
    first, second = _gather(_script(), take_after_each_step=True)
    assert first["positions"].tolist() == [10, 11]
    assert second["positions"].tolist() == [7, 8, 9]
    assert torch.equal(second["g.sampled"], expected[2:])
    assert "text.rows" in first
    assert "text.rows" not in second


@pytest.mark.parametrize(("split", "column"), [("fit", 0), ("held-out", 1)])
def test_a_condition_is_kept_once_a_branch(split: SplitRule, column: int) -> None:
    (taken,) = _gather(_script(split), take_after_each_step=False)
    counts = taken["text.row_counts"]
    by_row = dict(zip(map(tuple, taken["text.rows"].tolist()), counts[:, column].tolist(), strict=True))
    assert by_row == {(0, 0): 4, (1, 2): 1, (2, 2): 1, (3, 4): 2}
    assert not counts[:, 1 - column].any()
    assert taken["text.rows"].dtype == torch.bfloat16


def test_a_condition_of_a_single_prompt_is_divided_by_token() -> None:
    script = _script("by-token")
    (taken,) = _gather(script, take_after_each_step=False)
    held_out = [in_split(script.prompt, call.call, "held-out", torch.arange(4)) for call in script.calls[:2]]
    assert taken["text.row_counts"].sum(0).tolist() == [8 - sum(map(sum, held_out)), sum(map(sum, held_out))]


def test_the_input_may_change_after_it_was_kept() -> None:
    reservoir = Reservoir((VIDEO, TEXT), _script())
    reservoir.begin_call(_script().calls[0], CPU)
    x, text = _video(0).bfloat16(), _text(0).bfloat16()
    reservoir.add(VIDEO, x)
    reservoir.add(TEXT, text)
    x.zero_()
    text.zero_()
    taken = reservoir.take()
    assert taken["g.sampled"].any()
    assert taken["text.rows"].any()


def test_without_sampling_nothing_is_taken() -> None:
    assert _gather(_script(samples=False), take_after_each_step=False) == [{}]
