import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vq_calib.planning.hashing import BREAK_TIES, HOLD_OUT, SAMPLE, token_hash, upper_bits

WORD = 2**64


def _mix(x: int) -> int:
    """One step of SplitMix64 in Python's integers."""
    x = (x + 0x9E3779B97F4A7C15) % WORD
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % WORD
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % WORD
    return x ^ (x >> 31)


def _hash(*words: int) -> int:
    state = 0
    for word in words:
        state = _mix(state ^ word % WORD)
    return state


def test_the_step_is_that_of_splitmix64() -> None:
    # The first outputs of the reference implementation seeded with 0.
    assert [_mix(0), _mix(0x9E3779B97F4A7C15)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@given(st.lists(st.integers(0, WORD - 1), max_size=5), st.lists(st.integers(0, 2**40), min_size=1, max_size=5))
def test_it_is_the_formula_on_unsigned_words(place: list[int], tokens: list[int]) -> None:
    ours = token_hash(SAMPLE, place, torch.tensor(tokens))
    assert [value % WORD for value in ours.tolist()] == [_hash(SAMPLE, *place, token) for token in tokens]


@pytest.mark.parametrize("other", [(HOLD_OUT, (5, 6)), (BREAK_TIES, (5, 6)), (SAMPLE, (6, 5)), (SAMPLE, (5, 7))])
def test_hashes_of_another_purpose_or_place_are_independent(other: tuple[int, tuple[int, ...]]) -> None:
    tokens = torch.arange(20000)
    a, b = token_hash(SAMPLE, (5, 6), tokens), token_hash(*other, tokens)
    assert not (a == b).any()
    for bit in range(64):
        agree = (((a ^ b) >> bit) & 1).double().mean()
        assert 0.47 < agree < 0.53


def test_hashes_are_uniform() -> None:
    shares = upper_bits(token_hash(SAMPLE, (1,), torch.arange(100_000)), 4).bincount() / 100_000
    assert len(shares) == 16
    assert (shares - 1 / 16).abs().max() < 0.003


@given(st.integers(0, WORD - 1), st.integers(1, 63))
def test_upper_bits_are_those_of_the_unsigned_word(word: int, bits: int) -> None:
    signed = word - WORD if word >= WORD // 2 else word
    assert upper_bits(torch.tensor([signed]), bits).item() == word >> (64 - bits)


@pytest.mark.gpu
def test_cuda_gives_the_same() -> None:
    tokens, place = torch.arange(32760), (5, 2**63 + 1)
    assert torch.equal(token_hash(SAMPLE, place, tokens.cuda()).cpu(), token_hash(SAMPLE, place, tokens))
