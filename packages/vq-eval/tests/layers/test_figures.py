import pytest

from vq_eval.layers.figures import noise_of, places_of, ranking_of
from vq_eval.layers.noise_meter import SumRow


def row(name: str, kind: str = "linear", bucket: int = 7, branch: str = "cond", **powers: float) -> SumRow:
    values = {"signal": 100.0, "own_signal": 100.0, "own": 1.0, "in_place": 2.0, "rounding": 4.0} | powers
    return SumRow.model_validate(
        {"component": "transformer", "kind": kind, "name": name, "bucket": bucket, "branch": branch, **values}
    )


def test_noise_is_a_ratio_of_powers() -> None:
    assert noise_of(100, 1).snr_db == pytest.approx(20)
    assert noise_of(100, 1).noise_to_signal == 0.01
    assert noise_of(100, 0).snr_db is None
    assert noise_of(0, 1).snr_db is None


def test_powers_are_summed_before_the_ratio_is_taken() -> None:
    rows = [
        row("blocks.0.attn1.to_q", bucket=7, own=1.0),
        row("blocks.0.attn1.to_q", bucket=7, own=3.0),  # another prompt
        row("blocks.0.attn1.to_q", bucket=2, branch="uncond", own=2.0, signal=10, own_signal=10),
    ]
    (place,) = places_of(rows)
    assert (place.name, place.block, place.place) == ("blocks.0.attn1.to_q", 0, "attn1.to_q")
    assert place.own is not None
    assert place.own.noise_to_signal == pytest.approx(6 / 210)
    assert [(cell.bucket, cell.branch) for cell in place.cells] == [(2, "uncond"), (7, "cond")]
    assert place.cells[1].own is not None
    assert place.cells[1].own.noise_to_signal == pytest.approx(4 / 200)
    assert place.share == 1


def test_a_block_is_held_against_what_it_adds_and_an_output_has_no_own_error() -> None:
    places = places_of([row("", "output"), row("blocks.1", "block", own_signal=10.0), row("blocks.1.ffn.net.2")])
    assert [place.kind for place in places] == ["linear", "block", "output"]
    _, block, output = places
    assert block.own is not None
    assert (block.own.noise_to_signal, block.in_place.noise_to_signal) == (0.1, 0.02)
    assert (block.block, block.rounding) == (1, None)
    assert (output.own, output.share, output.block) == (None, None, None)


def test_vace_s_second_stack_has_rows_of_its_own() -> None:
    (place,) = places_of([row("vace_blocks.1.attn1.to_q")])
    assert (place.block, place.place) == (1, "vace_blocks.attn1.to_q")


def test_the_ranking_begins_with_the_most_expensive() -> None:
    ranking = ranking_of(
        places_of(
            [
                row("blocks.0.ffn.net.2", own=1.0),
                row("blocks.1.ffn.net.2", own=5.0),
                row("blocks.2.ffn.net.2", own=1.0),
                row("blocks.0", "block", own=2.0),
                row("blocks.1", "block", own=9.0),
                row("", "output", bucket=1, in_place=7.0),
                row("", "output", bucket=6, in_place=8.0),
            ]
        )
    )
    linears = [f"transformer.blocks.{block}.ffn.net.2" for block in (1, 0, 2)]
    assert ranking.linears == tuple(linears)
    assert ranking.blocks == ("transformer.blocks.1", "transformer.blocks.0")
    assert [cost.bucket for cost in ranking.buckets] == [6, 1]
