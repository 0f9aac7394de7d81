from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.artifacts import qparams
from vq_core.artifacts.decisions import write_decided
from vq_core.artifacts.qparams import open_qparams
from vq_core.errors import VqError
from vq_core.numerics.quantize import Quantized, quantize_weight
from vq_core.numerics.scheme import QuantScheme, scheme_named
from vq_core.store.writer import ComponentHeader, Header, create_artifact

LINEAR = "blocks.0.attn1.to_q"


@pytest.fixture(params=["int8", "fp8"])
def scheme(request: pytest.FixtureRequest) -> QuantScheme:
    return scheme_named(request.param)


@pytest.fixture
def quantized(scheme: QuantScheme) -> Quantized:
    return quantize_weight(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), scheme.weight)


@pytest.fixture
def folder(tmp_path: Path, t2v_config: dict[str, Any], scheme: QuantScheme, quantized: Quantized) -> Path:
    """One linear, whose bias was corrected, and one whose bias was not."""
    component = ComponentHeader("transformer", "f", t2v_config)
    header = Header(qparams.KIND, qparams.FORMAT, "t", "wan", "m", {"transformer": component}, {"scheme": scheme.name})
    tensors = {
        f"{LINEAR}.codes": quantized.codes,
        f"{LINEAR}.scale": quantized.scale,
        f"{LINEAR}.bias": torch.ones(6),
        "blocks.0.ffn.net.2.codes": quantized.codes.clone(),
        "blocks.0.ffn.net.2.scale": quantized.scale.clone(),
    }
    with create_artifact(tmp_path / "qparams", header) as writer:
        write_decided(writer, "transformer/block_0.safetensors", tensors, {LINEAR: {"method": "rtn"}})
    return tmp_path / "qparams"


def test_codes_and_scale_come_back(folder: Path, scheme: QuantScheme, quantized: Quantized) -> None:
    opened = open_qparams(folder)
    assert opened.scheme_of("transformer", LINEAR) is scheme
    read = opened.linear("transformer", LINEAR)
    assert read.codes.dtype == quantized.codes.dtype
    assert torch.equal(read.codes.float(), quantized.codes.float())
    assert torch.equal(read.scale, quantized.scale)


@pytest.mark.parametrize(("group", "fits"), [(4, True), (2, False), (16, False), (0, False)])
def test_a_rotation_comes_back_and_one_that_cannot_be_is_refused(
    tmp_path: Path, t2v_config: dict[str, Any], group: int, fits: bool
) -> None:
    component = ComponentHeader("transformer", "f", t2v_config)
    header = Header(qparams.KIND, qparams.FORMAT, "t", "wan", "m", {"transformer": component}, {"scheme": "int8"})
    weight = torch.randn(6, 12, generator=torch.Generator().manual_seed(0))
    tensors = {
        f"{LINEAR}.codes": quantize_weight(weight, scheme_named("int8").weight).codes,
        f"{LINEAR}.scale": torch.ones(6, 1),
        f"{LINEAR}.rotation": torch.tensor(group),
    }
    with create_artifact(tmp_path / "qparams", header) as writer:
        write_decided(writer, "transformer/block_0.safetensors", tensors, {LINEAR: {"method": "rtn"}})
    opened = open_qparams(tmp_path / "qparams")
    assert opened.rotation("transformer", LINEAR) == group
    assert opened.rotation("transformer", "blocks.0.ffn.net.2") == 1
    if fits:
        assert opened.linear("transformer", LINEAR).rotation == group
    else:
        with pytest.raises(VqError, match=rf"^`{LINEAR}.rotation` in .* is {group}, which is no power of 4 that div"):
            opened.linear("transformer", LINEAR)


def test_replaced_tensors_and_decisions(folder: Path) -> None:
    opened = open_qparams(folder)
    assert opened.replaced("transformer") == {f"{LINEAR}.bias"}
    assert opened.replacements("transformer", ["blocks.0.norm2.bias", f"{LINEAR}.bias"]).keys() == {f"{LINEAR}.bias"}
    assert opened.decisions("transformer") == {LINEAR: {"method": "rtn"}}


def test_refuses_a_linear_that_is_not_there(folder: Path) -> None:
    with pytest.raises(VqError, match=r"has no tensor `blocks\.9\.ffn\.net\.2\.codes` for transformer"):
        open_qparams(folder).linear("transformer", "blocks.9.ffn.net.2")
