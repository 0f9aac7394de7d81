"""A linear in full precision gives what the model's own does, whatever smoothing and centering changed around it."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from vq_core.artifacts.kept import exact_bias, exact_weight
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_core.numerics.centering import offset_by
from vq_core.testing.artifacts import write_qparams, write_weights
from vq_core.topology import LinearSink


@pytest.mark.parametrize("across", [False, True])
def test_it_is_the_model_s_linear_behind_what_its_input_has_become(
    tiny_model: Callable[[str], Path], tmp_path: Path, across: bool
) -> None:
    """The model's y = W·x + b, of x/s − μ in place of x, and with y/t − ν in place of y."""
    model = tiny_model("i2v")
    gains = write_weights(model, tmp_path / "w", across=across)["transformer"]
    qparams = open_qparams(write_qparams(tmp_path / "w", tmp_path / "q", center=True))
    original = open_source(str(model)).components["transformer"]
    component = open_weights(tmp_path / "w").components["transformer"]
    topology, ones = component.topology, torch.ones(())
    gain_out = {
        linear: gains[group.name]
        for group in topology.groups
        if isinstance(group.sink, LinearSink)
        for linear in group.sink.linears
    }
    for linear in (it.name for it in topology.linears):
        group, behind = topology.group_of(linear), offset_by(topology, linear)
        mean, lost = (qparams.mean("transformer", it) if it else None for it in (group, behind))
        weight, bias = (it.float() for it in original.plain([f"{linear}.weight", f"{linear}.bias"]).values())
        x = torch.randn(5, weight.shape[1], generator=torch.Generator().manual_seed(0))
        shared = topology.across(group)
        smoothed = x * gains.get(group.name, ones) * (gains.get(shared.name, ones) if shared else ones)
        read = smoothed - (0.0 if mean is None else mean)
        found = F.linear(
            read / component.gain_behind(group),  # the gain of a modulated norm is for its quantized readers alone
            exact_weight(component, linear),
            exact_bias(component, qparams, "transformer", linear).float(),
        )
        expected = F.linear(x, weight, bias) * gain_out.get(linear, ones) - (0.0 if lost is None else lost)
        assert torch.allclose(found, expected, rtol=1e-4, atol=1e-4), linear


def test_only_linears_of_the_transformer_are_kept(tiny_model: Callable[[str], Path], tmp_path: Path) -> None:
    write_weights(tiny_model("t2v"), tmp_path / "w")
    kept = ("blocks.0.ffn.net.2",)
    qparams = open_qparams(write_qparams(tmp_path / "w", tmp_path / "q", kept=kept, bias_shift=1.0))
    assert qparams.kept("transformer") == set(kept)
    decisions = qparams.decisions("transformer")
    assert [linear for linear, how in decisions.items() if how.get("kept")] == list(kept)
    assert [linear for linear, how in decisions.items() if not how["bias_corrected"]] == list(kept)
    other = open_qparams(write_qparams(tmp_path / "w", tmp_path / "other", kept=("proj_out",)))
    with pytest.raises(VqError, match="keeps 'proj_out' in full precision, which is none of its linears"):
        other.kept("transformer")
