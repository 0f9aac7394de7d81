import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import nn

from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.files.tensor_file import write_tensors
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import read_samples
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import Variant
from vq_core.topology import Topology
from vq_eval.layers.schema import Ranking
from vq_eval.layers.sensitivity import (
    LeftOut,
    Outcome,
    SensitivityRequest,
    gain_of,
    outcome_of,
    parse_counts,
    parse_request,
    restore,
    sample_exact,
    stages_of,
)
from vq_eval.videos.variants import apply_fake_quant

Artifacts = Callable[[Variant], tuple[Path, Path]]
TinyModel = Callable[[Variant], Path]


@pytest.mark.parametrize(("text", "counts"), [("3", (1, 2, 3)), ("1", (1,)), ("4, 1,2", (1, 2, 4)), ("8,8", (8,))])
def test_counts_are_a_number_or_a_list(text: str, counts: tuple[int, ...]) -> None:
    assert parse_counts(text) == counts


@pytest.mark.parametrize("text", ["", "0", "1,", "-2", "all", "99999999999", "9" * 5000])
def test_other_counts_are_refused(text: str) -> None:
    with pytest.raises(VqError, match="is neither a number nor a list"):
        parse_counts(text)


def test_a_request_names_its_unit() -> None:
    assert parse_request("2", "blocks") == SensitivityRequest("blocks", (1, 2))
    assert parse_request(None, "linears") is None
    with pytest.raises(VqError, match="`--sensitivity-of groups` is not known: choose from linears, blocks"):
        parse_request("2", "groups")


RANKING = Ranking(
    linears=("b.blocks.1.ffn.net.2", "a.blocks.0.attn1.to_q", "a.blocks.1.ffn.net.2"),
    blocks=("b.blocks.1", "a.blocks.1"),
    buckets=(),
)


def test_every_stage_adds_the_next_worst(topology: Topology) -> None:
    request = SensitivityRequest("linears", (1, 3))
    assert stages_of(request, RANKING, {"a": topology, "b": topology}) == [
        LeftOut(0, (), {"a": (), "b": ()}),
        LeftOut(1, RANKING.linears[:1], {"a": (), "b": ("blocks.1.ffn.net.2",)}),
        LeftOut(3, RANKING.linears[1:], {"a": ("blocks.0.attn1.to_q", "blocks.1.ffn.net.2"), "b": ()}),
    ]


def test_a_block_is_all_of_its_linears(topology: Topology) -> None:
    _, stage = stages_of(SensitivityRequest("blocks", (1,)), RANKING, {"a": topology, "b": topology})
    of_block = tuple(linear.name for linear in topology.linears if linear.shard == "block_1")
    assert stage.linears == {"a": (), "b": of_block}


def test_more_than_there_are_is_refused(topology: Topology) -> None:
    with pytest.raises(VqError, match="asks for 3 blocks in full precision, and the model has 2"):
        stages_of(SensitivityRequest("blocks", (3,)), RANKING, {"a": topology, "b": topology})


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_restored_is_what_would_never_have_been_quantized(
    tiny_model: TinyModel, artifacts: Artifacts, dtype: torch.dtype
) -> None:
    full = VideoPipeline(str(tiny_model("t2v")), "cpu", dtype=dtype).transformers["transformer"]
    weights, qparams = (
        open_it(path) for open_it, path in zip((open_weights, open_qparams), artifacts("t2v"), strict=True)
    )
    component = weights.components["transformer"]
    left_out = ("blocks.0.attn1.to_q", "blocks.1.attn1.to_out.0", "blocks.2.ffn.net.2")
    restored, expected = deepcopy(full), deepcopy(full)
    apply_fake_quant(restored, component, qparams, "transformer", "cpu")
    restore(restored, component, qparams, "transformer", left_out[:1], "cpu")
    restore(restored, component, qparams, "transformer", left_out[1:], "cpu")
    apply_fake_quant(expected, component, qparams, "transformer", "cpu", left_out)
    assert [type(module) for module in restored.modules()] == [type(module) for module in expected.modules()]
    ours, theirs = restored.state_dict(), expected.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert tensor.dtype == theirs[name].dtype
        assert torch.equal(tensor, theirs[name]), name
    with pytest.raises(TypeError, match=r"blocks\.2\.ffn\.net\.2 is not quantized"):
        restore(restored, component, qparams, "transformer", left_out[2:], "cpu")


def test_an_outcome_is_what_separates_two_videos(tiny_model: TinyModel, prompts: Path, tmp_path: Path) -> None:
    sampling = Sampling(steps=1, height=32, width=32, num_frames=5)
    pipeline = VideoPipeline(str(tiny_model("t2v")), "cpu")
    (conditions, _) = pipeline.encode(read_samples(prompts, pipeline.inputs), sampling)
    exact = sample_exact(pipeline, conditions, sampling, 1, lambda: None)
    file = tmp_path / "exact.safetensors"
    write_tensors(file, exact)
    same = outcome_of(pipeline, conditions, sampling, 1, file, lambda: None)
    assert same == Outcome(latent_error=0, latent_cosine=1, psnr_db=None)
    other = sample_exact(pipeline, conditions, sampling, 2, lambda: None)
    outcome = outcome_of(pipeline, conditions, sampling, 2, file, lambda: None)
    mse = float((other["frames"].double() - exact["frames"].double()).square().mean())
    assert outcome.psnr_db == pytest.approx(10 * math.log10(255**2 / mse))
    difference = (other["latent"].double() - exact["latent"].double()).norm()
    assert outcome.latent_error == pytest.approx(float(difference / exact["latent"].double().norm()))
    _break(pipeline.transformers["transformer"])
    with pytest.raises(VqError, match="holds NaN or Inf"):
        outcome_of(pipeline, conditions, sampling, 1, file, lambda: None)


def _break(transformer: nn.Module) -> None:
    transformer.get_parameter("proj_out.bias").data[0] = math.nan


def test_a_gain_is_a_mean_over_prompts() -> None:
    outcomes = [
        Outcome(latent_error=0.1, latent_cosine=0.9, psnr_db=30),
        Outcome(latent_error=0.3, latent_cosine=0.7, psnr_db=None),
    ]
    gain = gain_of(LeftOut(2, ("a", "b"), {}), outcomes)
    assert (gain.left_out, gain.added, gain.psnr_db) == (2, ("a", "b"), 30)
    assert (gain.latent_error, gain.latent_cosine) == pytest.approx((0.2, 0.8))
    assert gain_of(LeftOut(2, (), {}), outcomes[1:]).psnr_db is None
