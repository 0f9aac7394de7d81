from collections.abc import Callable
from pathlib import Path

import pytest

from vq_core.testing.tiny_models import Variant
from vq_core.topology import Topology
from vq_eval.layers.figures import noise_of
from vq_eval.layers.schema import Place, Suspect
from vq_eval.layers.suspects import find_suspects

TinyModel = Callable[[Variant], Path]
Figures = dict[str, tuple[float, float, float]]
"""Own, rounding and in-place SNR in dB by name, where they are not 35, 30 and 33."""


def place(name: str, kind: str, figures: tuple[float, float, float]) -> Place:
    own, rounding, in_place = (noise_of(1, 10 ** (-db / 10)) for db in figures)
    return Place.model_validate(
        {
            "component": "transformer",
            "kind": kind,
            "name": name,
            "block": int(name.split(".")[1]),
            "place": ".".join(name.split(".")[2:]),
            "own": own,
            "in_place": in_place,
            "rounding": rounding if kind == "linear" else None,
            "share": 0.0,
            "cells": (),
        }
    )


def suspects(topology: Topology, **changed: Figures) -> tuple[Suspect, ...]:
    figures = changed.get("figures", {})
    usual = (35.0, 30.0, 33.0)
    linears = [place(it.name, "linear", figures.get(it.name, usual)) for it in topology.linears]
    blocks = [place(f"blocks.{n}", "block", figures.get(f"blocks.{n}", usual)) for n in range(topology.num_blocks)]
    return find_suspects([*linears, *blocks], {"transformer": topology})


def test_a_healthy_model_has_none(topology: Topology) -> None:
    assert suspects(topology) == ()


def test_a_linear_far_below_its_kind_and_its_own_rounding_is_one(topology: Topology) -> None:
    (found,) = suspects(topology, figures={"blocks.1.ffn.net.2": (0.0, 30.0, 0.0)})
    assert (found.kind, found.name, found.linears) == ("linear", "blocks.1.ffn.net.2", ("blocks.1.ffn.net.2",))
    assert found.snr_db == pytest.approx(0)
    assert found.expected_db == pytest.approx(35)
    assert "blocks.1.ffn.net.2 in transformer: 0.0 dB where 35.0 dB are expected" in found.sentence


def test_a_hard_linear_that_smoothing_has_not_saved_is_none(topology: Topology) -> None:
    assert suspects(topology, figures={"blocks.1.ffn.net.2": (15.0, 12.0, 15.0)}) == ()


def test_an_easy_linear_that_smoothing_gains_nothing_on_is_none(topology: Topology) -> None:
    hard = {f"blocks.{block}.attn2.to_q": (35.0, 5.0, 33.0) for block in (0, 2)}
    assert suspects(topology, figures=hard | {"blocks.1.attn2.to_q": (36.0, 36.0, 33.0)}) == ()


def test_where_rounding_alone_would_be_as_bad_the_other_blocks_tell(topology: Topology) -> None:
    hard = {f"blocks.{block}.attn2.to_q": (35.0, 5.0, 33.0) for block in (0, 2)}
    (found,) = suspects(topology, figures=hard | {"blocks.1.attn2.to_q": (2.0, 5.0, 2.0)})
    assert found.name == "blocks.1.attn2.to_q"


def test_all_readers_of_one_input_are_one_suspect(topology: Topology) -> None:
    qkv = topology.group_of("blocks.2.attn1.to_q").reads
    (found,) = suspects(topology, figures=dict.fromkeys(qkv, (4.0, 30.0, 4.0)))
    assert (found.kind, found.name, found.linears) == ("group", "blocks.2.attn1.qkv", qkv)
    assert "wrong gain" in found.sentence
    two = suspects(topology, figures=dict.fromkeys(qkv[:2], (4.0, 30.0, 4.0)))
    assert [it.kind for it in two] == ["linear", "linear"]


def test_a_norm_before_a_sound_linear_is_one_and_blocks_behind_it_are_not(topology: Topology) -> None:
    inherited = {f"blocks.{block}.attn2.to_q": (35.0, 30.0, 8.0) for block in (1, 2)}
    (found,) = suspects(topology, figures={"blocks.1.attn2.to_q": (35.0, 30.0, 5.0)})
    assert (found.kind, found.name, found.linears) == ("group", "blocks.1.attn2.q", ("blocks.1.attn2.to_q",))
    assert "the norm before it" in found.sentence
    assert found.expected_db == pytest.approx(33)
    assert [it.name for it in suspects(topology, figures=inherited)] == ["blocks.1.attn2.q"]


def test_a_block_is_one_where_none_of_its_linears_is(topology: Topology) -> None:
    block = {"blocks.1": (20.0, 0.0, 20.0)}
    (found,) = suspects(topology, figures=block)
    assert (found.kind, found.name) == ("block", "blocks.1")
    (found,) = suspects(topology, figures=block | {"blocks.1.attn1.to_out.0": (0.0, 30.0, 0.0)})
    assert found.kind == "linear"


def test_readers_of_the_text_that_are_worse_in_place_accuse_the_embedder(topology: Topology) -> None:
    (found,) = suspects(topology, figures={"blocks.0.attn2.to_k": (35.0, 30.0, 10.0)})
    assert (found.kind, found.name) == ("condition", "text")


def test_the_furthest_below_comes_first(topology: Topology) -> None:
    found = suspects(
        topology, figures={"blocks.1.ffn.net.2": (9.0, 30.0, 0.0), "blocks.0.attn2.to_q": (-3.0, 30.0, 0.0)}
    )
    assert [it.name for it in found] == ["blocks.0.attn2.to_q", "blocks.1.ffn.net.2"]
