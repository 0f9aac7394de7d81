"""Quantization of whole models: every linear once, codes as vq_core's numerics give them, errors as recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.smoothing.smooth import SmoothSettings
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.errors import VqError
from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.scheme import Rounding, scheme_named
from vq_core.store.reader import require_parent
from vq_core.store.resumable_folder import partial_folder

Config = dict[str, Any]
MakeModel = Callable[..., Path]
MakeSmoothed = Callable[..., Path]

RECORDED_DB = 5e-4  # decisions keep three decimals


def _quantize(weights: Path, output: Path, scheme: str = "int8", **settings: Any) -> Path:
    quantize(open_weights(weights), QuantizeSettings(scheme, **settings), output)
    return output


@pytest.fixture
def experts(make_model: MakeModel, make_smoothed: MakeSmoothed, t2v_config: Config) -> Path:
    """Smoothed weights of a model with two transformers."""
    return make_smoothed(make_model(t2v_config, t2v_config))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_every_linear_is_rounded_once_as_the_numerics_do_and_its_error_is_recorded(
    scheme: str, rounding: Rounding, experts: Path, tmp_path: Path
) -> None:
    qparams = open_qparams(_quantize(experts, tmp_path / "qparams", scheme, rounding=rounding.value))
    assert sorted(qparams.artifact.manifest.components) == ["transformer", "transformer_2"]
    for name, component in open_weights(experts).components.items():
        decisions = qparams.decisions(name)
        assert set(decisions) == {linear.name for linear in component.topology.linears}
        for linear, decision in decisions.items():
            weight = component.plain([f"{linear}.weight"])[f"{linear}.weight"]
            expected = quantize_weight(weight, scheme_named(scheme).weight, rounding)
            codes, scale, *_ = qparams.linear(name, linear)
            assert codes.dtype == expected.codes.dtype
            assert torch.equal(codes.float(), expected.codes.float())
            assert torch.equal(scale, expected.scale)
            exact = weight.double().numpy()
            noise = np.sum((exact - codes.double().numpy() * scale.double().numpy()) ** 2)
            assert decision["method"] == "rtn"
            assert decision["weight_snr_db"] == pytest.approx(10 * np.log10(np.sum(exact**2) / noise), abs=RECORDED_DB)


def test_every_linear_of_every_block_has_codes_and_scale_in_its_file_and_nothing_else(
    experts: Path, tmp_path: Path
) -> None:
    places = [f"{attention}.to_{part}" for attention in ("attn1", "attn2") for part in ("q", "k", "v", "out.0")]
    places += ["ffn.net.0.proj", "ffn.net.2"]
    manifest = open_qparams(_quantize(experts, tmp_path / "qparams")).artifact.manifest
    for name, component in manifest.components.items():
        assert {tensor: entry.file for tensor, entry in component.tensors.items()} == {
            f"blocks.{block}.{place}.{part}": f"{name}/block_{block}.safetensors"
            for block in range(2)
            for place in places
            for part in ("codes", "scale")
        }


def test_the_roundings_differ_at_ties_in_fp8(
    make_model: MakeModel, make_smoothed: MakeSmoothed, i2v_config: Config, tmp_path: Path
) -> None:
    ties = torch.full((80, 32), 17.0)  # in E4M3 halfway between 16 and 18, at the scale 1 that 448 gives
    ties[:, 0] = 448
    model = make_model(i2v_config, edit={"blocks.0.ffn.net.0.proj.weight": ties.bfloat16()})
    weights = make_smoothed(model, SmoothSettings(method="none"))
    for rounding, code in ((Rounding.NEAREST_EVEN, 16), (Rounding.QTORCH, 18)):
        qparams = open_qparams(_quantize(weights, tmp_path / rounding.value, "fp8", rounding=rounding.value))
        assert torch.all(qparams.linear("transformer", "blocks.0.ffn.net.0.proj").codes.float()[:, 1:] == code)


def test_a_weight_that_codes_hold_exactly_has_no_figure(
    make_model: MakeModel, make_smoothed: MakeSmoothed, i2v_config: Config, tmp_path: Path
) -> None:
    zero = "blocks.1.attn2.to_out.0"
    model = make_model(i2v_config, edit={f"{zero}.weight": torch.zeros(32, 32, dtype=torch.bfloat16)})
    qparams = open_qparams(_quantize(make_smoothed(model), tmp_path / "qparams"))
    codes, scale, *_ = qparams.linear("transformer", zero)
    assert not codes.any()
    assert torch.all(scale == 1)
    assert qparams.decisions("transformer")[zero] == {"method": "rtn", "weight_snr_db": None}


def test_the_artifact_says_what_it_was_made_from_and_how(smoothed: Path, tmp_path: Path) -> None:
    qparams = open_qparams(_quantize(smoothed, tmp_path / "qparams", "fp8", rounding="qtorch"))
    weights = open_weights(smoothed)
    require_parent(qparams.artifact, weights.artifact)
    assert qparams.artifact.manifest.settings == {
        "scheme": "fp8",
        "method": "rtn",
        "rounding": "qtorch",
        "rotate": "none",
        "bias_correction": False,
        "center": False,
        "keep": [],
        "keep_size": None,
        "min_snr": None,
    }
    assert (
        qparams.artifact.manifest.components["transformer"].fingerprint == weights.components["transformer"].fingerprint
    )


def test_weights_that_were_folded_in_bf16_are_quantized_too(
    i2v_model: Path, make_smoothed: MakeSmoothed, tmp_path: Path
) -> None:
    weights = make_smoothed(i2v_model, SmoothSettings(dtype="bf16"))
    qparams = open_qparams(_quantize(weights, tmp_path / "qparams"))
    assert qparams.linear("transformer", "blocks.0.attn1.to_q").scale.dtype == torch.float32


# --- refusals ------------------------------------------------------------------------------------


def test_a_folder_of_another_kind_and_an_output_that_exists_are_refused(
    smoothed: Path, i2v_model: Path, tmp_path: Path
) -> None:
    qparams = _quantize(smoothed, tmp_path / "qparams")
    for weights, output, sentence in (
        (qparams, tmp_path / "out", "qparams .*quant-params.* smoothed-weights"),
        (i2v_model, tmp_path / "out", "model .*smoothed-weights.*no manifest.json"),
        (smoothed, qparams, "qparams exists already"),
    ):
        with pytest.raises(VqError, match=sentence):
            _quantize(weights, output)


def test_a_flipped_bit_or_a_missing_file_is_refused_and_what_is_finished_is_kept(
    smoothed: Path, tmp_path: Path
) -> None:
    file = smoothed / "transformer/block_1.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(VqError, match="block_1.safetensors is not the file that was written"):
        _quantize(smoothed, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [path.stem for path in partial_folder(tmp_path / "out").rglob("*.safetensors")] == ["block_0"]
    file.unlink()
    with pytest.raises(VqError, match="smoothed lacks transformer/block_1.safetensors"):
        _quantize(smoothed, tmp_path / "other")
