"""The floor, against counts made by running the block and by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from vq_infer.bench.measuring.ceilings import Ceilings
from vq_infer.bench.measuring.floor import Cost, block_costs
from vq_infer.bench.measuring.kinds import Kind
from vq_infer.bench.models.workload import Step, Workload
from vq_infer.memory.model_sizes import MODEL_SIZES


def test_operations_are_those_that_torch_counts(workload: Workload, built: object) -> None:
    model = built("diffusers_eager")  # type: ignore[operator]
    step = Step(workload, torch.device("cpu"), torch.float32)
    counts = []
    block = model.blocks[0]
    for blocks in ([block], []):
        model.blocks = torch.nn.ModuleList(blocks)
        with FlopCounterMode(display=False) as counter:
            step.forward(model, "cond", 1.0)
        counts.append(counter.get_total_flops())
    model.blocks = torch.nn.ModuleList([block])
    costs = block_costs(workload, "plain", "plain", 4)
    assert sum(cost.flops for cost in costs.values()) == counts[0] - counts[1]


def test_published_figures() -> None:
    """783 TFLOP of linears and 879 of self-attention in a forward of Wan2.1-14B at 480p (without the image's)."""
    workload = Workload("14b-t2v", MODEL_SIZES["14b-t2v"], 40, 480, 832, 81)
    costs = block_costs(workload, "fp8", "plain", 2)
    linears = sum(costs[kind].flops for kind in (Kind.LINEAR_ATTENTION, Kind.LINEAR_FFN))
    assert 40 * linears / 1e12 == pytest.approx(783, rel=0.02)
    assert 40 * costs[Kind.SELF_ATTENTION].flops / 1e12 == pytest.approx(879, rel=0.01)


def test_quantized_moves_less(workload: Workload) -> None:
    whole, codes = (block_costs(workload, linears, "plain", 2) for linears in ("plain", "int8"))
    assert codes[Kind.LINEAR_FFN].bytes < whole[Kind.LINEAR_FFN].bytes
    assert codes[Kind.LINEAR_FFN].multiplies == "int8"
    assert Kind.QUANTIZE in codes
    assert Kind.QUANTIZE not in whole
    assert block_costs(workload, "int8", "8-bit", 2)[Kind.SELF_ATTENTION].multiplies == "fp8"


def test_longer_of_computing_and_moving() -> None:
    ceilings = Ceilings({"plain": 100.0, "fp8": 200.0}, copy=10.0)
    assert Cost(1000, 1, "fp8").seconds(ceilings) == Cost(0, 50).seconds(ceilings) == 5.0


def test_what_lies_between_products_is_read_and_written_once() -> None:
    """By hand, in bytes per value of the stream: of 14B image-to-video in 8 bits."""
    workload = Workload("14b", MODEL_SIZES["14b"], 40, 480, 832, 81)
    costs = block_costs(workload, "fp8", "plain", 2)
    stream = workload.tokens * workload.dim
    assert costs[Kind.ROPE].bytes == (2 + 2) * 3 * stream  # q and k of the video, q of cross-attention
    assert costs[Kind.QUANTIZE].bytes == (2 + 1) * stream + (2 + 2 + 1) * stream  # of the video; of text and image
    of_text = Workload("14b-t2v", MODEL_SIZES["14b-t2v"], 40, 480, 832, 81)
    assert block_costs(of_text, "fp8", "plain", 2)[Kind.QUANTIZE].bytes == 2 * (2 + 1) * stream
