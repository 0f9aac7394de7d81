"""What LLMC has quantized becomes a LightX2V checkpoint by renaming: codes, scales and gains are the same numbers."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.errors import VqError
from vq_core.families.wan import to_native
from vq_core.model.source import open_source
from vq_core.numerics.quantize import snr_db
from vq_core.recipes.recipe import Recipe
from vq_export.export import open_model
from vq_export.model.quantized_source import open_quantized_source
from vq_export.options import ExportOptions
from vq_export.show import provenance_of, provenance_rows
from vq_export.targets.lightx2v import export
from vq_export.verify.reference import model_reference
from vq_export.verify.verify import verify

SCHEMES = ("int8", "fp8")
Q = "blocks.0.attn1.to_q"


def content(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.rglob("*.safetensors") for name, tensor in load_file(file).items()}


def edit(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> Path:
    """The folder after `change` of its tensors, in one file without an index."""
    tensors = content(folder)
    change(tensors)
    for file in [*folder.glob("*.safetensors"), *folder.glob("*.index.json")]:
        file.unlink()
    save_file(tensors, folder / "diffusion_pytorch_model.safetensors")
    return folder


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", ["t2v", "i2v", "ti2v-5b"])
def test_conversion_is_renaming(by_llmc: Any, tmp_path: Path, kind: str, scheme: str, native: bool) -> None:
    folder = by_llmc(kind, scheme, native=native)
    export(open_model(ExportOptions(model=str(folder)), Recipe()), tmp_path / "ckpt")
    stored, written = content(folder), content(tmp_path / "ckpt")
    assert len(stored) == len(written)
    for name, tensor in stored.items():
        if "affine_norm" in name:  # as LightX2V casts it when it loads
            assert torch.equal(written[name], tensor.bfloat16().float())
            assert not torch.equal(written[name], tensor)
            continue
        found = written[name if native else to_native(name)]
        if name.endswith("weight_scale"):
            assert found.dtype == torch.float32
            assert torch.equal(found, tensor.float())
        else:
            assert found.dtype == tensor.dtype
            assert torch.equal(found.view(torch.uint8), tensor.view(torch.uint8))
    assert json.loads((tmp_path / "ckpt" / "config.json").read_text())["quant_method"] == "advanced_ptq"
    checkpoint = open_checkpoint(tmp_path / "ckpt")
    method = "lightx2v" if native else "llmc"
    assert checkpoint.artifact.manifest.settings["quantize"] == {"scheme": scheme, "method": method}
    assert verify(checkpoint).problems == []
    assert any((tensor == -128).any() for tensor in written.values() if tensor.dtype == torch.int8) is (
        scheme == "int8"
    )


@pytest.mark.parametrize("scheme", [*SCHEMES, None])
@pytest.mark.parametrize("kind", ["t2v", "i2v", "ti2v-5b"])
def test_what_llmc_wrote_is_verified_against_the_model_that_it_was_given(
    by_llmc: Any,
    models: dict[str, Path],
    make_model: Callable[..., Path],
    tmp_path: Path,
    kind: str,
    scheme: str | None,
) -> None:
    said = ExportOptions(model=str(by_llmc(kind, scheme)), scheme=scheme or "int8")
    export(open_model(said, Recipe()), tmp_path / "ckpt")
    checkpoint = open_checkpoint(tmp_path / "ckpt")
    found = verify(checkpoint, model_reference(open_source(str(models[kind])), checkpoint))
    assert found.problems == []
    snrs = found.weight_snr_db["transformer"]
    assert snrs.keys() == {linear.name for linear in checkpoint.components["transformer"].topology.linears}
    assert min(snrs.values()) > (30 if scheme == "fp8" else 39)
    assert set(found.blocks) == {"transformer"}
    other = verify(checkpoint, model_reference(open_source(str(make_model(kind, seed=1))), checkpoint))
    assert any(f"`{Q}` of transformer is not the source's weight" in problem for problem in other.problems)
    if scheme is None:  # and against its own smoothed model, exactly
        smoothed = model_reference(open_source(str(said.model)), checkpoint)
        assert (smoothed.smoothed, smoothed.folded_elsewhere) == (True, False)
        assert verify(checkpoint, smoothed).problems == []


def test_another_shape_than_the_imported_one_is_refused(by_llmc: Any, models: dict[str, Path], tmp_path: Path) -> None:
    export(open_model(ExportOptions(model=str(by_llmc("t2v", "int8"))), Recipe()), tmp_path / "ckpt")
    with pytest.raises(VqError, match="transformer of .* has other tensors than .*ckpt: give its model"):
        model_reference(open_source(str(models["ti2v-5b"])), open_checkpoint(tmp_path / "ckpt"))


@pytest.mark.parametrize(
    ("scheme", "smooth", "smoother", "rounder"),
    [
        ("int8", True, "LLMC's, folded before it was converted", "llmc: the codes were there before"),
        ("int8", False, "none: converted as it is", "llmc: the codes were there before"),
        (None, True, "LLMC's, folded before it was converted", "rtn, rounding nearest-even"),
    ],
)
def test_show_says_what_llmc_did(
    by_llmc: Any, tmp_path: Path, scheme: str | None, smooth: bool, smoother: str, rounder: str
) -> None:
    said = ExportOptions(model=str(by_llmc("t2v", scheme, smooth=smooth)), scheme=scheme or "int8")
    export(open_model(said, Recipe()), tmp_path / "ckpt")
    for place in (tmp_path / "ckpt", tmp_path / "ckpt" / "block_0.safetensors"):
        rows = provenance_rows(provenance_of(place))
        assert rows["smoother"].startswith(smoother)
        assert rows["rounder"].startswith(rounder)


def test_gains_of_one_need_no_quant_method(by_llmc: Any, tmp_path: Path) -> None:
    model = open_quantized_source(str(by_llmc("t2v", "fp8", smooth=False)))
    assert model is not None
    assert not model.has_gains
    export(model, tmp_path / "ckpt")
    assert "quant_method" not in json.loads((tmp_path / "ckpt" / "config.json").read_text())
    assert not any("affine_norm" in name for name in content(tmp_path / "ckpt"))


def test_fingerprint_is_that_of_the_codes(by_llmc: Any) -> None:
    made, found = by_llmc("t2v", "int8"), []
    for change in (
        lambda tensors: None,
        lambda tensors: None,
        lambda tensors: tensors[f"{Q}.weight"].__setitem__((0, 0), 1 - tensors[f"{Q}.weight"][0, 0]),
    ):
        model = open_quantized_source(str(edit(made, change)))
        assert model is not None
        found.append(model.components["transformer"].fingerprint)
    assert found[0] == found[1] != found[2]


def test_plain_models_are_none(models: dict[str, Path], by_llmc: Any) -> None:
    assert open_quantized_source(str(models["i2v"])) is None
    assert open_quantized_source(str(by_llmc("t2v", None))) is None


def no_quant(tensors: dict[str, Tensor]) -> None:
    """As LLMC leaves a linear that it was told to ignore."""
    del tensors[f"{Q}.weight_scale"]
    tensors |= {f"{Q}.weight": torch.ones(64, 64).bfloat16(), f"{Q}.no_quant": torch.tensor(True)}


def refusal(folder: Path, **said: Any) -> str:
    with pytest.raises(VqError) as caught:
        open_model(ExportOptions(model=str(folder), **said), Recipe()).components["transformer"].linear(Q)
    return str(caught.value)


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        ({"scheme": "fp8"}, "is int8, and fp8 is asked for: give the model it was made from"),
        ({"rounding": "qtorch"}, "is rounded already: leave --rounding out"),
        ({"lora": ["some.safetensors"]}, "LoRAs are merged before quantization"),
    ],
)
def test_refuses_what_would_quantize_it_otherwise(by_llmc: Any, said: dict[str, Any], sentence: str) -> None:
    assert sentence in refusal(by_llmc("t2v", "int8"), **said)


@pytest.mark.parametrize(
    ("scheme", "change", "sentence"),
    [
        ("int8", no_quant, f"`{Q}.weight` in .* is BF16, and LightX2V runs one 8-bit scheme for every linear of every"),
        ("int8", lambda it: it.update({f"{Q}.weight": it[f"{Q}.weight"].int()}), "is I32, and LightX2V runs one 8-bit"),
        (
            "int8",
            lambda it: it.update({f"{Q}.weight": it[f"{Q}.weight"].float().to(torch.float8_e4m3fn)}),
            "has codes of both F8_E4M3 and I8",
        ),
        ("int8", lambda it: it.pop(f"{Q}.weight_scale"), f"lacks `{Q}.weight_scale`"),
        (
            "int8",
            lambda it: it.update({f"{Q}.weight_scale": torch.ones(64, 2)}),
            r"is \[64, 2\], and one scale per outp",
        ),
        ("int8", lambda it: it.update({f"{Q}.input_scale": torch.ones(1)}), f"`{Q}.input_scale`"),
        *(
            (
                "int8",
                lambda it, value=value: it[f"{Q}.weight_scale"].__setitem__(3, value),
                f"`{Q}.weight_scale` in .* has values that are not positive numbers",
            )
            for value in (0.0, -1.0, float("nan"))
        ),
        ("fp8", lambda it: it[f"{Q}.weight"].view(torch.uint8)[0, 0].fill_(0x7F), "has codes that are NaN"),
    ],
    ids=["ignored", "32 bits", "two formats", "no scale", "groups", "static", "zero", "negative", "NaN", "NaN code"],
)
def test_refuses_codes_that_cannot_be_kept(
    by_llmc: Any, scheme: str, change: Callable[[dict[str, Tensor]], object], sentence: str
) -> None:
    assert re.search(sentence, refusal(edit(by_llmc("t2v", scheme), change)))


@pytest.mark.parametrize(
    ("other", "said", "sentence"),
    [
        ("fp8", {}, "have different schemes"),
        (None, {"scheme": "int8"}, "is quantized already, by LLMC's save_lightx2v"),
    ],
)
def test_refuses_experts_that_differ(
    by_llmc: Any, tmp_path: Path, other: str | None, said: dict[str, str], sentence: str
) -> None:
    (tmp_path / "both").mkdir()
    for name, scheme in (("transformer", "int8"), ("transformer_2", other)):
        by_llmc("t2v", scheme).rename(tmp_path / "both" / name)
    assert sentence in refusal(tmp_path / "both", **said)


def test_clamping_minus_128_would_change_little_and_is_not_done() -> None:
    """What decision 0016 weighs: the weight would be no worse, but it would be another one."""
    generator = torch.Generator().manual_seed(0)
    weight = (0.02 * torch.randn(512, 1536, generator=generator)).bfloat16()
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-5) / 127
    kept = (weight / scale).round().clamp(-128, 127).float()
    clamped = kept.clamp(min=-127)
    rows = float((kept == -128).any(dim=1).float().mean())
    assert rows > 0.01
    snrs = [snr_db(weight.float(), codes * scale.float()) for codes in (kept, clamped)]
    tokens = torch.randn(64, 1536, generator=generator)
    change = snr_db(tokens @ (kept * scale.float()).T, tokens @ (clamped * scale.float()).T)
    print(
        f"-128 in {rows:.1%} of rows; weight {snrs[0]:.3f} dB kept, {snrs[1]:.3f} dB clamped; outputs {change:.1f} dB"
    )
    assert abs(snrs[0] - snrs[1]) < 0.01
    assert 60 < change < 90
