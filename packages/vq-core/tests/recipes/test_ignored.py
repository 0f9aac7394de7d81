"""Which linears a rule is about, how it is typed, and what is no rule."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vq_core.errors import VqError
from vq_core.families import wan
from vq_core.recipes.ignored import IgnoreRule, ignored_linears, parse_ignored
from vq_core.topology import Topology

PLACES = ("attn1.to_q", "attn1.to_out.0", "attn2.to_k", "ffn.net.0.proj", "ffn.net.2")


@pytest.fixture
def topology(t2v_config: dict[str, Any]) -> Topology:
    """Four blocks of ten linears."""
    return wan.topology(t2v_config | {"num_layers": 4})


def names(topology: Topology, *rules: IgnoreRule) -> list[str]:
    return list(ignored_linears(rules, topology))


def test_a_block_stands_for_all_its_linears(topology: Topology) -> None:
    ignored = names(topology, IgnoreRule(blocks=(1,)))
    assert len(ignored) == 10
    assert all(name.startswith("blocks.1.") for name in ignored)


def test_a_linear_stands_for_that_of_every_block(topology: Topology) -> None:
    assert names(topology, IgnoreRule(linears=("ffn.net.2",))) == [f"blocks.{block}.ffn.net.2" for block in range(4)]


def test_both_stand_for_the_linears_in_the_blocks(topology: Topology) -> None:
    rule = IgnoreRule(blocks=(0, "2-3"), linears=("ffn.net.2", "attn1.to_q"))
    expected = {f"blocks.{block}.{place}" for block in (0, 2, 3) for place in ("attn1.to_q", "ffn.net.2")}
    assert set(names(topology, rule)) == expected


def test_rules_add_up_in_the_order_of_the_model(topology: Topology) -> None:
    ignored = names(topology, IgnoreRule(linears=("ffn.net.2",)), IgnoreRule(blocks=("3-3",)), IgnoreRule(blocks=(3,)))
    assert len(ignored) == len(set(ignored)) == 13
    assert ignored == [linear.name for linear in topology.linears if linear.name in ignored]


def test_vace_s_linears_are_named_apart_and_numbers_are_those_of_the_main_stack(vace_config: dict[str, Any]) -> None:
    vace = wan.topology(vace_config)
    assert names(vace, IgnoreRule(linears=("vace_blocks.ffn.net.2",))) == [
        "vace_blocks.0.ffn.net.2",
        "vace_blocks.1.ffn.net.2",
    ]
    assert {name.split(".attn")[0] for name in names(vace, IgnoreRule(blocks=(1,)))} >= {"blocks.1"}
    assert not [name for name in names(vace, IgnoreRule(blocks=(1,))) if name.startswith("vace")]
    with pytest.raises(VqError, match="Block 3 cannot stay in full precision, because the blocks are 0 to 2"):
        names(vace, IgnoreRule(blocks=(3,)))


def test_without_rules_nothing_is_ignored(topology: Topology) -> None:
    assert names(topology) == []


@given(
    st.lists(st.integers(0, 3) | st.tuples(st.integers(0, 3), st.integers(0, 3)).map(sorted).map(tuple), max_size=3),
    st.lists(st.sampled_from(PLACES), max_size=3),
)
def test_a_rule_prints_as_it_is_typed(blocks: list[Any], linears: list[str]) -> None:
    if not blocks and not linears:
        return
    typed = tuple(block if isinstance(block, int) else f"{block[0]}-{block[1]}" for block in blocks)
    rule = IgnoreRule(blocks=typed, linears=tuple(linears))
    assert parse_ignored(str(rule)) == rule
    numbers = {n for block in blocks for n in ([block] if isinstance(block, int) else range(block[0], block[1] + 1))}
    assert rule.block_numbers() == numbers


@pytest.mark.parametrize(
    "text", ["", "3-1", "0,x", "0:", ":ffn.net.2", "1-", "0,2-x:ffn.net.2", "0-1-2", "a:b", "0-99999999999", "9" * 5000]
)
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(VqError, match="is not a rule: write blocks, linears or both"):
        parse_ignored(text)
    with pytest.raises(VqError, match="^`--keep "):
        parse_ignored(text, "--keep")


@pytest.mark.parametrize(
    "rule",
    [{}, {"blocks": ["3-1"]}, {"blocks": ["x"]}, {"blocks": [-1]}, {"blocks": ["0-99999999999"]}, {"linear": ["a"]}],
)
def test_what_is_no_rule_in_a_recipe(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        IgnoreRule.model_validate(rule)


def test_what_the_model_does_not_have(topology: Topology) -> None:
    with pytest.raises(VqError, match="Block 4 cannot stay in full precision, because the blocks are 0 to 3"):
        names(topology, IgnoreRule(blocks=("0-4",)))
    with pytest.raises(VqError, match=r"`self_attn.q` cannot stay in .* choose from attn1.to_q, attn1.to_k"):
        names(topology, IgnoreRule(linears=("self_attn.q",)))
