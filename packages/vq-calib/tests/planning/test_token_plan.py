import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_calib.planning.calib_prompts import CalibPrompt, split_of
from vq_calib.planning.hashing import HOLD_OUT, SAMPLE, token_hash
from vq_calib.planning.token_plan import (
    column,
    place_of,
    plan_tokens,
    rows_per_stratum,
    script_of,
    smallest,
    table_of,
)
from vq_core.artifacts.stats import SPLITS
from vq_core.sampling.schedule import Call

CALLS = [Call(step, branch, 1000 - 130 * step, 7 - step // 2) for step in range(5) for branch in range(2)]


def _prompts(total: int, tokens: int = 300) -> list[CalibPrompt]:
    digests = (f"{index:064x}" for index in range(17, 17 + total))
    return [
        CalibPrompt(index, digest, 42 + index, split_of(index, total), tokens + 10 * index)
        for index, digest in enumerate(digests)
    ]


def _exhaustive(prompts: list[CalibPrompt], split: str, k: int) -> list[list[int]]:
    """The choice by the definition: hash every token of the run, sort, cut."""
    strata: dict[tuple[int, int], list[list[int]]] = {}
    for prompt in prompts:
        for call in CALLS:
            place = (int(prompt.sha256[:16], 16), prompt.seed, call.step, call.branch)
            tokens = torch.arange(prompt.tokens)
            keys = token_hash(SAMPLE, place, tokens).tolist()
            draws = token_hash(HOLD_OUT, place, tokens).tolist()
            for token, (key, draw) in enumerate(zip(keys, draws, strict=True)):
                own = prompt.split
                if own == "by-token":
                    own = "held-out" if draw % 2**64 // 2 < 2**63 // 5 else "fit"
                if own == split:
                    row = [call.bucket, call.branch, key % 2**64 // 2, prompt.index, call.step, token]
                    strata.setdefault((call.bucket, call.branch), []).append(row)
    return [row for stratum in sorted(strata) for row in sorted(strata[stratum])[:k]]


@pytest.mark.parametrize("total", [1, 3, 6])
def test_the_choice_is_the_bottom_of_all_hashes(total: int) -> None:
    tables = plan_tokens(_prompts(total), CALLS, 100)
    assert tables["fit"].tolist() == _exhaustive(_prompts(total), "fit", 17)  # 100 / 6, rounded up
    assert tables["held-out"].tolist() == _exhaustive(_prompts(total), "held-out", 5)  # 25 / 6
    assert len(tables["fit"]) == 6 * 17


def test_a_stratum_may_have_fewer_tokens_than_it_could_keep() -> None:
    tables = plan_tokens(_prompts(2, tokens=4), CALLS, 1000)
    assert len(tables["fit"]) == 4 * len(CALLS)
    assert len(tables["held-out"]) == 14 * len(CALLS)


@pytest.mark.parametrize(("tokens", "held_out"), [(4096, 1024), (10, 3), (1, 1), (0, 0)])
def test_a_quarter_is_held_out(tokens: int, held_out: int) -> None:
    assert rows_per_stratum(tokens, "fit", 1) == tokens
    assert rows_per_stratum(tokens, "held-out", 1) == held_out


def test_places_are_all_different() -> None:
    places = {place_of(prompt, call) for prompt in _prompts(3) for call in CALLS}
    assert len(places) == 3 * len(CALLS)


def test_scripts_fill_every_position_once() -> None:
    prompts = _prompts(3)
    tables = plan_tokens(prompts, CALLS, 60)
    table = torch.cat([tables[split] for split in SPLITS])
    positions = []
    for prompt in prompts:
        script = script_of(prompt, CALLS, tables)
        assert script.samples
        assert [scripted.call for scripted in script.calls] == CALLS
        for scripted in script.calls:
            rows = table[scripted.positions]
            assert torch.equal(column(rows, "token"), scripted.tokens)
            assert set(column(rows, "prompt").tolist()) <= {prompt.index}
            assert set(column(rows, "step").tolist()) <= {scripted.call.step}
            assert set(column(rows, "branch").tolist()) <= {scripted.call.branch}
            positions += scripted.positions.tolist()
    assert sorted(positions) == list(range(len(table)))


Row = tuple[int, ...]
ROWS = st.lists(st.tuples(*(st.integers(0, last) for last in (7, 1, 9, 2, 3, 5))), max_size=40, unique=True)


def _table(rows: list[Row]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int64).reshape(-1, 6)


def _chosen(rows: list[Row], k: int) -> list[Row]:
    table = _table(rows)
    return [tuple(row) for row in table[smallest(table, k)].tolist()]


@given(ROWS, st.integers(1, 4))
def test_every_stratum_keeps_its_smallest_keys_in_order(rows: list[Row], k: int) -> None:
    expected = []
    for stratum in sorted({row[:2] for row in rows}):
        expected += sorted(row for row in rows if row[:2] == stratum)[:k]
    assert _chosen(rows, k) == expected


@given(ROWS, st.integers(1, 4), st.integers(0, 40), st.randoms(use_true_random=False))
def test_choosing_from_choices_is_choosing_from_all(rows: list[Row], k: int, cut: int, random: object) -> None:
    random.shuffle(rows)  # type: ignore[attr-defined]
    assert _chosen(_chosen(rows[:cut], k) + _chosen(rows[cut:], k), k) == _chosen(rows, k)


def test_columns_by_name() -> None:
    table = table_of(2, bucket=7, branch=1, key=torch.tensor([5, 4]), prompt=3, step=2, token=torch.tensor([8, 9]))
    assert table.tolist() == [[7, 1, 5, 3, 2, 8], [7, 1, 4, 3, 2, 9]]
    assert column(table, "token").tolist() == [8, 9]
    assert table_of(0).shape == (0, 6)
