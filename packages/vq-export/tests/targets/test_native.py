"""Native checkpoints; that they are read back is tested in `verify/checks/test_comfyui_reads.py`."""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from vq_core.artifacts.converted import open_converted
from vq_export.targets.native import export, notes

Paths = dict[str, Path]


def test_the_reader_gives_back_codes_gains_and_rotations(models: Paths, make_artifacts: Any, tmp_path: Path) -> None:
    model = make_artifacts(models["i2v"], "int8", rotation=64).opened()
    export(model, tmp_path / "out")
    opened = open_converted(tmp_path / "out")
    assert opened.has_gains
    ours, theirs = model.components["transformer"], opened.components["transformer"]
    for linear in ours.topology.linears:
        a, b = ours.linear(linear.name), theirs.linear(linear.name)
        assert torch.equal(a.codes, b.codes)
        assert torch.equal(a.scale, b.scale)
        assert a.rotation == b.rotation > 1
    for name in ours.topology.gains:
        gain = theirs.gain(name)
        assert gain is not None
        assert torch.equal(gain, ours.gain(name))
    assert theirs.gain("blocks.0.attn1.out.gain") is None
    assert notes(model) == {"inputs": "rotated for 24 of 24 linears"}


def test_converted_fp8_keeps_a_scale_per_channel(models: Paths, convert: Any, tmp_path: Path) -> None:
    export(convert(models["t2v"], "fp8"), tmp_path / "out")
    tensors = load_file(tmp_path / "out" / "wan_t2v_fp8.safetensors")
    assert tensors["blocks.0.self_attn.q.weight_scale"].shape == (64, 1)
    assert not open_converted(tmp_path / "out").has_gains
