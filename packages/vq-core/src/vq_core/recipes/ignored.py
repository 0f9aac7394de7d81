"""Rules for the linears that stay in full precision, in a simulation or in a quantized model."""

import re
from collections.abc import Sequence
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from vq_core.errors import VqError
from vq_core.recipes.typed_yaml import Section, refusal
from vq_core.topology import Topology, place_of


def _block_or_range(value: int | str) -> int | str:
    if (value < 0) if isinstance(value, int) else (_range_of(value) is None):
        raise refusal('which is neither a block nor a range of blocks: write 38, or "38-39".')
    return value


BlockOrRange = Annotated[int | str, AfterValidator(_block_or_range)]


class IgnoreRule(Section):
    """The linears named `linears` inside `blocks`; all linears, or all blocks, if one of the two is left out.

    `blocks` are numbers from 0 and ranges such as `"38-39"`, of the main stack; `linears` are names inside a block such
    as `ffn.net.2`, or `vace_blocks.ffn.net.2` in VACE's stack.
    """

    blocks: Annotated[tuple[BlockOrRange, ...], Field(strict=False)] = ()
    linears: Annotated[tuple[str, ...], Field(strict=False)] = ()

    @model_validator(mode="after")
    def _names_something(self) -> Self:
        if not self.blocks and not self.linears:
            raise refusal("which names nothing: give `blocks`, `linears` or both.")
        return self

    def __str__(self) -> str:
        """As it is typed after `--ignore` or `--keep`."""
        return ":".join(",".join(map(str, part)) for part in (self.blocks, self.linears) if part)

    def block_numbers(self) -> set[int]:
        """Numbers of the blocks of the rule."""
        numbers: set[int] = set()
        for block in self.blocks:
            numbers |= {block} if isinstance(block, int) else set(_range_of(block) or ())
        return numbers


def parse_ignored(text: str, option: str = "--ignore") -> IgnoreRule:
    """The rule `BLOCKS`, `LINEARS` or `BLOCKS:LINEARS`, each a list with commas: `0,38-39`, `ffn.net.2`, `0:ffn.net.2`.

    `option` is what the user typed it after.

    Raises:
        VqError: a part is empty, or a block is neither a number nor a range.
    """
    first, colon, second = text.partition(":")
    if not colon and not first[:1].isdigit():
        first, second = "", first
    blocks = [int(part) if re.fullmatch(r"\d{1,6}", part) else part for part in _parts(first)]
    linears = _parts(second)
    no_range = any(isinstance(block, str) and _range_of(block) is None for block in blocks)
    if no_range or (colon and not (blocks and linears)) or not (blocks or linears):
        raise VqError(f"`{option} {text}` is not a rule: write blocks, linears or both, as in 0,38-39:ffn.net.2.")
    return IgnoreRule(blocks=tuple(blocks), linears=tuple(linears))


def ignored_linears(rules: Sequence[IgnoreRule], topology: Topology) -> tuple[str, ...]:
    """Names of the linears of blocks that match any of `rules`, in the order of the topology.

    Raises:
        VqError: the transformer has no such block or linear.
    """
    places = {linear.name: place_of(linear.name) for linear in topology.block_linears}
    known_blocks = [name for name in topology.block_shards if name.startswith("block_")]
    ignored: set[str] = set()
    for rule in rules:
        blocks = rule.block_numbers()
        if blocks and max(blocks) >= len(known_blocks):
            raise VqError(
                f"Block {max(blocks)} cannot stay in full precision, because the blocks are 0 to "
                f"{len(known_blocks) - 1}: choose from these."
            )
        shards = {f"block_{block}" for block in blocks}
        for place in rule.linears:
            if place not in places.values():
                known = ", ".join(dict.fromkeys(places.values()))
                raise VqError(
                    f"`{place}` cannot stay in full precision, because blocks have no such linear: choose from {known}."
                )
        ignored |= {
            linear.name
            for linear in topology.block_linears
            if (not shards or linear.shard in shards) and (not rule.linears or places[linear.name] in rule.linears)
        }
    return tuple(name for name in places if name in ignored)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _range_of(text: str) -> range | None:
    """The blocks of the range `a-b`, both ends included; None if `text` is not a range."""
    match = re.fullmatch(r"(\d{1,6})-(\d{1,6})", text)  # no model has more, and a million fit into memory
    return range(int(match[1]), int(match[2]) + 1) or None if match else None
