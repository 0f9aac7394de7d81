"""Shares by kind beside their floor."""

from collections.abc import Callable

import torch
from torch import nn

from vq_infer.bench.measuring.breakdown import Share, breakdown, profile_pass, shares
from vq_infer.bench.measuring.ceilings import Ceilings
from vq_infer.bench.measuring.kinds import Kind, Launch
from vq_infer.bench.measuring.ranges import named_ranges
from vq_infer.bench.models.workload import Step, Workload

CEILINGS = Ceilings({"plain": 1e12}, 1e10)


def test_shares_add_up(workload: Workload) -> None:
    launches = [Launch("gemm_a", 1000), Launch("gemm_b", 3000), Launch("gemm_a", 500), Launch("gelu", 500)]
    found = shares(launches, workload)
    assert found == {Kind.LINEAR: Share(4.5, ("gemm_b", "gemm_a"), 3), Kind.GELU: Share(0.5, ("gelu",), 1)}


def test_linears_that_are_told_apart_and_that_are_not(workload: Workload) -> None:
    by_kind = {Kind.LINEAR_FFN: Share(1.0, (), 1), Kind.OTHER: Share(2.0, (), 1)}
    apart = {line.kind: line for line in breakdown(by_kind, workload, CEILINGS, "plain", "plain", 4)}
    assert Kind.LINEAR not in apart
    assert apart[Kind.LINEAR_FFN].floor_ms > 0
    assert apart[Kind.NORM].share.milliseconds == 0  # inside others, but its floor stands
    assert apart[Kind.OTHER].floor_ms == 0
    together = breakdown({Kind.LINEAR: Share(1.0, (), 1)}, workload, CEILINGS, "plain", "plain", 4)
    assert Kind.LINEAR_FFN not in {line.kind for line in together}
    assert sum(line.floor_ms for line in together) == sum(line.floor_ms for line in apart.values())


def test_every_operation_of_our_engine_has_a_kind(
    workload: Workload, built: Callable[[str], nn.Module], step: Step
) -> None:
    model = built("vq_int8")
    with named_ranges(model):
        found = shares(profile_pass(lambda: step.forward(model, "cond", 1.0), torch.device("cpu")), workload)
    told = {Kind.LINEAR_ATTENTION, Kind.LINEAR_FFN, Kind.LINEAR_CONTEXT, Kind.SELF_ATTENTION, Kind.CROSS_ATTENTION}
    assert told | {Kind.NORM, Kind.ROPE, Kind.GELU, Kind.QUANTIZE} <= found.keys()
    assert Kind.LINEAR not in found
