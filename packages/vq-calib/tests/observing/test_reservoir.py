import torch
from torch import Tensor

from vq_calib.observing.reservoir import Reservoir
from vq_calib.planning.calib_prompts import CalibPrompt
from vq_calib.planning.token_plan import Script, ScriptedCall
from vq_core.sampling.schedule import Call
from vq_core.topology import Group

VIDEO = Group("g", ("a",), None, 3)
TEXT = Group("text", ("b",), None, 2, sequence="text")
CPU = torch.device("cpu")


def _script() -> Script:
    """Two steps of two branches, of a component whose first step is the sampler's fifth."""
    calls = [
        ScriptedCall(Call(4, 0, 500, 4), torch.tensor([2, 0]), torch.tensor([10, 11])),
        ScriptedCall(Call(4, 1, 500, 4), torch.tensor([], dtype=torch.int64), torch.tensor([], dtype=torch.int64)),
        ScriptedCall(Call(5, 0, 400, 3), torch.tensor([5]), torch.tensor([7])),
        ScriptedCall(Call(5, 1, 400, 3), torch.tensor([1, 1]), torch.tensor([8, 9])),
    ]
    return Script(CalibPrompt(0, "ab" * 32, 1, "fit", 6), tuple(calls), samples=True)


def _video(call: int) -> Tensor:
    return torch.arange(18.0).reshape(6, 3) + 100 * call


def _text(branch: int) -> Tensor:
    """Four tokens: two of them padding."""
    return torch.tensor([[1.0 + branch, 2.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]])


def test_sampled_rows_come_once_with_their_positions_and_a_condition_with_the_first_step() -> None:
    script = _script()
    reservoir, taken = Reservoir((VIDEO, TEXT), script), []
    for number, call in enumerate(script.calls):
        reservoir.begin_call(call, CPU)
        reservoir.add(VIDEO, _video(number))
        reservoir.add(TEXT, _text(number % 2))
        if number % 2:
            reservoir.end_step()
            taken.append(reservoir.take())
    first, second = taken
    assert first["positions"].tolist() == [10, 11]
    assert torch.equal(first["g.sampled"], torch.stack([_video(0)[2], _video(0)[0]]).bfloat16())
    assert second["positions"].tolist() == [7, 8, 9]
    assert torch.equal(second["g.sampled"], torch.stack([_video(2)[5], _video(3)[1], _video(3)[1]]).bfloat16())
    assert first["text.row_counts"][:, 0].sum() == 8
    assert "text.rows" not in second


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
