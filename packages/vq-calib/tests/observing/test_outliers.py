import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_calib.observing.outliers import highest, merge_outliers, no_outliers, outlier_keys
from vq_calib.planning.hashing import BREAK_TIES, token_hash
from vq_core.topology import Group

GROUP = Group("g", ("a",), None, 3)


def _tokens(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and rows of `count` tokens; many have the same absmax."""
    rows = torch.randint(-6, 7, (count, 3), generator=torch.Generator().manual_seed(seed)).bfloat16()
    return outlier_keys(rows.abs().amax(1).float(), token_hash(BREAK_TIES, (seed,), torch.arange(count))), rows


@given(
    st.lists(st.floats(0, 2.0**120, width=32, allow_subnormal=False), min_size=2, max_size=9),
    st.integers(-(2**63), 2**63 - 1),
)
def test_keys_rise_with_absmax_and_then_with_the_hash(values: list[float], word: int) -> None:
    hashes = torch.full((len(values),), word)
    keys = outlier_keys(torch.tensor(values), hashes)
    assert (keys >= 0).all()
    assert torch.equal(torch.tensor(values)[keys.argsort(stable=True)], torch.tensor(values).sort().values)
    ties = outlier_keys(torch.tensor([2.5, 2.5, 2.5]), torch.tensor([1 << 40, -1, 1 << 62]))
    assert ties.argsort().tolist() == [0, 2, 1]  # as unsigned numbers


def test_the_highest_come_first() -> None:
    keys, rows = _tokens(500, 0)
    kept, of_kept = highest(keys, rows.float())
    order = sorted(range(500), key=lambda index: -keys[index].item())[:64]
    assert kept.tolist() == keys[order].tolist()
    assert torch.equal(of_kept, rows[order])
    assert of_kept.dtype == torch.bfloat16


@given(st.integers(0, 200), st.integers(0, 200), st.integers(0, 99))
def test_merging_parts_gives_what_the_whole_gives(a: int, b: int, seed: int) -> None:
    parts = [_tokens(a, seed), _tokens(b, seed + 100)]
    names = list(no_outliers(GROUP))
    dicts = [dict(zip(names, highest(*part), strict=True)) for part in parts]
    whole = dict(zip(names, highest(*map(torch.cat, zip(*parts, strict=True))), strict=True))
    for first, second in (dicts, dicts[::-1]):
        merged = merge_outliers(GROUP, first, second)
        assert merged.keys() == whole.keys()
        assert all(torch.equal(merged[name], whole[name]) for name in names)
    assert len(whole["g.outliers"]) == min(64, a + b)
