"""What was found is told to people and machines, and enforced."""

import json
from pathlib import Path

import pytest

from vq_core.errors import GateFailed
from vq_export.verify.checks.block_error import BlockError, BranchError
from vq_export.verify.verification import Verification, by_place, enforce


@pytest.mark.parametrize(
    ("found", "strict", "sentence"),
    [
        (Verification(["`x` is gone."]), False, "^c has a problem: `x` is gone. Export it again.$"),
        (Verification(["`x` is gone.", "`y` too."]), False, "^c has 2 problems, the first: `x` is gone."),
        (Verification([], ["`x` is odd."]), True, "^c has a warning: `x` is odd. Without --strict it passes.$"),
        (Verification(["`y` is gone."], ["`x` is odd."]), True, "a problem: `y` is gone"),
    ],
)
def test_enforce_says_how_many_and_which_first(found: Verification, strict: bool, sentence: str) -> None:
    with pytest.raises(GateFailed, match=sentence):
        enforce(found, Path("c"), strict=strict)


def test_what_is_sound_passes_and_so_do_warnings() -> None:
    enforce(Verification([]), Path("c"), strict=True)
    enforce(Verification([], ["`x` is odd."]), Path("c"))


def test_json_has_no_infinity() -> None:
    snrs = {"transformer": {"blocks.0.ffn.net.2": float("inf"), "blocks.1.ffn.net.2": 40.0}}
    block = BlockError(1, 3.0, {"feed_forward": BranchError(38.0, 0.1)})
    found = Verification([], cast_snr_db={"transformer": 55.0}, weight_snr_db=snrs, blocks={"transformer": block})
    content = json.loads(json.dumps(found.as_json(), allow_nan=False))
    assert content["weight_snr_db"] == {"transformer": {"blocks.0.ffn.net.2": None, "blocks.1.ffn.net.2": 40.0}}
    branches = {"feed_forward": {"snr_db": 38.0, "excess_db": 0.1}}
    assert content["blocks"]["transformer"] == {"block": 1, "limit_db": 3.0, "branches": branches}


def test_what_was_not_compared_is_said() -> None:
    assert Verification([]).rows()["compared with"] == "nothing"
    assert Verification([], reference="M").rows()["compared with"] == "M"


def test_a_long_list_of_problems_is_cut_in_the_table_and_whole_in_json() -> None:
    found = Verification([f"problem {n}" for n in range(100)])
    rows = found.rows()
    assert rows["problems"] == "100"
    assert [row for row in rows if row.startswith("problem ")] == [f"problem {n}" for n in range(1, 21)]
    assert len(found.as_json()["problems"]) == 100


def test_median_and_lowest_by_place() -> None:
    snrs = {f"blocks.{block}.attn1.to_q": snr for block, snr in enumerate((40.0, 31.0, 44.0))}
    assert by_place(snrs | {"blocks.2.ffn.net.2": None}) == {
        "attn1.to_q": "SNR 40.0 dB, lowest 31.0 dB (block 1)",
        "ffn.net.2": "SNR inf dB, lowest inf dB (block 2)",
    }
