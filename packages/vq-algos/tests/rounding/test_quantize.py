"""Quantization of whole models: every linear once, codes as vq_core's numerics give them, errors as recorded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vq_algos.rounding.quantize import QuantizeSettings, quantize
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
def test_codes_and_scales_are_the_numerics(scheme: str, rounding: Rounding, experts: Path, tmp_path: Path) -> None:
    qparams = open_qparams(_quantize(experts, tmp_path / "qparams", scheme, rounding=rounding.value))
    for name, component in open_weights(experts).components.items():
        for linear in component.topology.linears:
            weight = component.plain([f"{linear.name}.weight"])[f"{linear.name}.weight"]
            expected = quantize_weight(weight, scheme_named(scheme).weight, rounding)
            codes, scale = qparams.linear(name, linear.name)
            assert codes.dtype == expected.codes.dtype
            assert torch.equal(codes.float(), expected.codes.float())
            assert torch.equal(scale, expected.scale)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_every_linear_of_every_block_is_there_once_and_nothing_else(scheme: str, experts: Path, tmp_path: Path) -> None:
    manifest = open_qparams(_quantize(experts, tmp_path / "qparams", scheme)).artifact.manifest
    assert sorted(manifest.components) == ["transformer", "transformer_2"]
    places = [
        f"{attention}.{linear}" for attention in ("attn1", "attn2") for linear in ("to_q", "to_k", "to_v", "to_out.0")
    ]
    places += ["ffn.net.0.proj", "ffn.net.2"]
    for name, component in manifest.components.items():
        assert {tensor: entry.file for tensor, entry in component.tensors.items()} == {
            f"blocks.{block}.{place}.{part}": f"{name}/block_{block}.safetensors"
            for block in range(2)
            for place in places
            for part in ("codes", "scale")
        }


def test_the_roundings_part_at_ties_in_fp8_only(
    make_model: MakeModel, make_smoothed: MakeSmoothed, i2v_config: Config, tmp_path: Path
) -> None:
    ties = torch.full((80, 32), 17.0)  # in E4M3 halfway between 16 and 18, at the scale 1 that 448 gives
    ties[:, 0] = 448
    model = make_model(i2v_config, edit={"blocks.0.ffn.net.0.proj.weight": ties.bfloat16()})
    weights = make_smoothed(model, SmoothSettings(method="none"))
    codes = {}
    for scheme in ("int8", "fp8"):
        for rounding in Rounding:
            output = _quantize(weights, tmp_path / f"{scheme}-{rounding}", scheme, rounding=rounding.value)
            codes[scheme, rounding] = (
                open_qparams(output).linear("transformer", "blocks.0.ffn.net.0.proj").codes.float()
            )
    assert torch.equal(codes["int8", Rounding.NEAREST_EVEN], codes["int8", Rounding.QTORCH])
    assert torch.all(codes["fp8", Rounding.NEAREST_EVEN][:, 1:] == 16)
    assert torch.all(codes["fp8", Rounding.QTORCH][:, 1:] == 18)


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_the_recorded_error_is_that_of_the_codes(scheme: str, experts: Path, tmp_path: Path) -> None:
    qparams = open_qparams(_quantize(experts, tmp_path / "qparams", scheme))
    for name, component in open_weights(experts).components.items():
        decisions = qparams.decisions(name)
        assert set(decisions) == {linear.name for linear in component.topology.linears}
        for linear, decision in decisions.items():
            weight = component.plain([f"{linear}.weight"])[f"{linear}.weight"].double().numpy()
            codes, scale = (part.double().numpy() for part in qparams.linear(name, linear))
            noise = np.sum((weight - codes * scale) ** 2)
            assert decision["method"] == "rtn"
            assert decision["weight_snr_db"] == pytest.approx(10 * np.log10(np.sum(weight**2) / noise), abs=RECORDED_DB)


def test_a_weight_that_codes_hold_exactly_has_no_figure(
    make_model: MakeModel, make_smoothed: MakeSmoothed, i2v_config: Config, tmp_path: Path
) -> None:
    zero = "blocks.1.attn2.to_out.0"
    model = make_model(i2v_config, edit={f"{zero}.weight": torch.zeros(32, 32, dtype=torch.bfloat16)})
    qparams = open_qparams(_quantize(make_smoothed(model), tmp_path / "qparams"))
    codes, scale = qparams.linear("transformer", zero)
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
        "bias_correction": False,
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


def test_two_runs_give_the_same_artifact(smoothed: Path, tmp_path: Path) -> None:
    digests = {open_qparams(_quantize(smoothed, tmp_path / name)).artifact.digest for name in ("one", "two")}
    assert len(digests) == 1


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"scheme": "int4"}, "`int4` is not a scheme that the targets can run: choose int8 or fp8"),
        ({"scheme": "int8", "method": "gtpq"}, "`gtpq` is not one of the rounders \\(auto, clip, gptq, rtn\\)"),
        ({"scheme": "int8", "rounding": "up"}, "`up` is not a rounding: choose one of nearest-even, qtorch"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        QuantizeSettings(**settings)


def test_a_folder_of_another_kind_is_refused(smoothed: Path, tmp_path: Path) -> None:
    qparams = _quantize(smoothed, tmp_path / "qparams")
    with pytest.raises(VqError, match="qparams .*quant-params.* smoothed-weights"):
        _quantize(qparams, tmp_path / "out")


def test_a_model_that_was_not_smoothed_is_refused(i2v_model: Path, tmp_path: Path) -> None:
    with pytest.raises(VqError, match="model .*smoothed-weights.*no manifest.json"):
        _quantize(i2v_model, tmp_path / "out")


def test_an_output_that_exists_is_refused(smoothed: Path, tmp_path: Path) -> None:
    output = _quantize(smoothed, tmp_path / "qparams")
    with pytest.raises(VqError, match="qparams exists already"):
        _quantize(smoothed, output)


def test_a_flipped_bit_is_refused_and_what_is_finished_is_kept(smoothed: Path, tmp_path: Path) -> None:
    file = smoothed / "transformer/block_1.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(VqError, match="block_1.safetensors is not the file that was written"):
        _quantize(smoothed, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [path.stem for path in partial_folder(tmp_path / "out").rglob("*.safetensors")] == ["block_0"]


def test_a_missing_file_is_refused(smoothed: Path, tmp_path: Path) -> None:
    (smoothed / "transformer/block_0.safetensors").unlink()
    with pytest.raises(VqError, match="smoothed lacks transformer/block_0.safetensors"):
        _quantize(smoothed, tmp_path / "out")
