"""Smoothing of whole models: the function is unchanged and the formula is SmoothQuant's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vq_algos.smoothing.smooth import SmoothSettings, smooth
from vq_core.artifacts.stats import open_stats
from vq_core.artifacts.weights import open_weights
from vq_core.model.source import open_source
from vq_core.numerics.bfloat16 import is_bf16
from vq_core.targets import TARGETS
from vq_core.topology import Group, LinearSink, ModulationSink, NormSink

Config = dict[str, Any]
MakeModel = Callable[..., Path]
MakeStats = Callable[..., Path]
MakeSmoothed = Callable[..., Path]
Activations = dict[tuple[str, str], Tensor]

FP32_ROUNDING = 1e-6
BF16_ROUNDING = 2.0**-8
LLMC_PLACES = ("attn1.qkv", "attn2.q", "ffn.up")


def _tensors(artifact: Path, component: str = "transformer") -> dict[str, Tensor]:
    opened = open_weights(artifact).components[component]
    return opened.plain([*opened.topology.tensors, *(group.gain for group in opened.topology.groups)])


def _model_tensors(model: Path, component: str = "transformer") -> dict[str, Tensor]:
    checkpoint = open_source(str(model)).components[component]
    return checkpoint.plain(checkpoint.topology.tensors)


def _smooth(model: Path, stats: Path | None, output: Path, **settings: Any) -> Path:
    smooth(open_source(str(model)), open_stats(stats) if stats else None, SmoothSettings(**settings), output)
    return output


def test_sampling_is_handed_on_where_the_model_or_an_unguided_calibration_says_it(
    i2v_model: Path, make_stats: MakeStats, tmp_path: Path
) -> None:
    def sampling(folder: Path) -> object:
        return open_weights(folder).artifact.manifest.settings.get("sampling")

    for scale, expected in ((1.0, {"steps": 3, "guidance_scale": 1.0}), (5.0, None)):
        stats = make_stats(i2v_model, name=f"stats-{scale}", steps=3, guidance_scale=scale)
        assert sampling(_smooth(i2v_model, stats, tmp_path / f"smoothed-{scale}", method="none")) == expected
    assert sampling(_smooth(i2v_model, None, tmp_path / "plain", method="none")) is None
    (i2v_model / "sampling.json").write_text('{"steps": 4, "fps": 8}')
    assert sampling(_smooth(i2v_model, None, tmp_path / "said", method="none")) == {"steps": 4, "fps": 8}


def test_the_noise_levels_are_those_of_the_calibration_else_of_the_models_files(
    i2v_model: Path, make_stats: MakeStats, tmp_path: Path
) -> None:
    (i2v_model / "scheduler").mkdir()
    (i2v_model / "scheduler" / "scheduler_config.json").write_text('{"flow_shift": 5.0}')
    for name, used, shift in (
        ("old", {}, 5.0),
        ("said", {"flow_shift": 8.0}, 8.0),
        ("none", {"flow_shift": None}, 5.0),
    ):
        stats = make_stats(i2v_model, name=f"stats-{name}", guidance_scale=5.0, **used)
        smoothed = open_weights(_smooth(i2v_model, stats, tmp_path / name, method="none"))
        assert smoothed.artifact.manifest.settings["sampling"] == {"flow_shift": shift}


# --- the function --------------------------------------------------------------------------------


def _linear(x: Tensor, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    return F.linear(x, tensors[f"{name}.weight"].double(), tensors[f"{name}.bias"].double())


def _affine(x: Tensor, tensors: Mapping[str, Tensor], norm: str) -> Tensor:
    return x * tensors[f"{norm}.weight"].double() + tensors[f"{norm}.bias"].double()


def _outputs(tensors: Mapping[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Every linear's output in fp64 where Wan's dataflow feeds it with random normalised inputs and attention maps.

    Gains, where `tensors` has them, multiply the modulated norms' outputs. Values are what attention mixes, so theirs
    may differ; whatever reads them may not.
    """
    random = torch.Generator().manual_seed(7)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random, dtype=torch.float64)

    dim = tensors["scale_shift_table"].shape[-1]
    projected = _linear(normal(dim), tensors, "condition_embedder.time_proj").reshape(6, dim)
    has_image = "condition_embedder.image_embedder.norm2.weight" in tensors
    text = _linear(normal(5, dim), tensors, "condition_embedder.text_embedder.linear_2")
    image = _affine(normal(4, dim), tensors, "condition_embedder.image_embedder.norm2") if has_image else None
    outputs: dict[str, Tensor] = {}
    for block in range(blocks):
        name = f"blocks.{block}"
        read = lambda x, linear, name=name: _linear(x, tensors, f"{name}.{linear}")  # noqa: E731
        gains = [tensors.get(f"{name}.{norm}.gain", torch.ones(dim)).double() for norm in ("norm1", "norm3")]
        rows = tensors[f"{name}.scale_shift_table"][0].double() + projected
        modulated = (normal(8, dim) * (1 + rows[1]) + rows[0]) * gains[0]
        values = torch.softmax(normal(8, 8), dim=-1) @ read(modulated, "attn1.to_v")
        outputs |= {f"{name}.attn1.{part}": read(modulated, f"attn1.{part}") for part in ("to_q", "to_k")}
        outputs[f"{name}.attn1.to_out.0"] = read(values, "attn1.to_out.0")
        outputs[f"{name}.attn2.to_q"] = read(_affine(normal(8, dim), tensors, f"{name}.norm2"), "attn2.to_q")
        outputs[f"{name}.attn2.to_k"] = read(text, "attn2.to_k")
        values = torch.softmax(normal(8, 5), dim=-1) @ read(text, "attn2.to_v")
        if image is not None:
            outputs[f"{name}.attn2.add_k_proj"] = read(image, "attn2.add_k_proj")
            values = values + torch.softmax(normal(8, 4), dim=-1) @ read(image, "attn2.add_v_proj")
        outputs[f"{name}.attn2.to_out.0"] = read(values, "attn2.to_out.0")
        modulated = (normal(8, dim) * (1 + rows[4]) + rows[3]) * gains[1]
        outputs[f"{name}.ffn.net.0.proj"] = read(modulated, "ffn.net.0.proj")
        outputs[f"{name}.ffn.net.2"] = read(F.gelu(outputs[f"{name}.ffn.net.0.proj"]), "ffn.net.2")
    return outputs


def _largest_difference(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max()) for name in one)


@pytest.mark.parametrize("layout", ["i2v_config", "t2v_config"])
@pytest.mark.parametrize("groups", ["all", "llmc"])
@pytest.mark.parametrize("target", TARGETS)
def test_the_function_is_unchanged(
    layout: str,
    groups: str,
    target: str,
    request: pytest.FixtureRequest,
    make_model: MakeModel,
    make_smoothed: MakeSmoothed,
) -> None:
    config = request.getfixturevalue(layout)
    model = make_model(config)
    folded = _tensors(make_smoothed(model, SmoothSettings(groups=groups, target=target)))
    before = _outputs(_model_tensors(model), config["num_layers"])
    assert _largest_difference(before, _outputs(folded, config["num_layers"])) < FP32_ROUNDING


def test_folding_in_bf16_costs_the_weights_rounding_and_no_more(i2v_model: Path, make_smoothed: MakeSmoothed) -> None:
    folded = _tensors(make_smoothed(i2v_model, SmoothSettings(dtype="bf16")))
    difference = _largest_difference(_outputs(_model_tensors(i2v_model), 2), _outputs(folded, 2))
    assert FP32_ROUNDING < difference < 4 * BF16_ROUNDING


@pytest.mark.parametrize(
    "forgotten",
    [
        "blocks.0.norm1.gain",
        "blocks.1.norm3.gain",
        "blocks.0.norm2.bias",
        "blocks.1.attn1.to_v.weight",
        "blocks.1.attn2.to_v.bias",
        "blocks.0.attn2.add_v_proj.weight",
        "condition_embedder.text_embedder.linear_2.bias",
        "condition_embedder.image_embedder.norm2.weight",
    ],
)
def test_the_check_sees_a_producer_without_its_gain(forgotten: str, smoothed: Path, i2v_model: Path) -> None:
    original = _model_tensors(i2v_model)
    folded = _tensors(smoothed)
    folded[forgotten] = original.get(forgotten, torch.ones_like(folded[forgotten]))
    assert _largest_difference(_outputs(original, 2), _outputs(folded, 2)) > 0.01


# --- the gains -----------------------------------------------------------------------------------


def _stored_gain(group: Group, original: Mapping[str, Tensor], folded: Mapping[str, Tensor]) -> np.ndarray:
    """The gain that the group's producers carry in the artifact."""
    match group.sink:
        case ModulationSink(name):
            return folded[name].double().numpy()
        case NormSink(norm):
            producers = [norm]
        case LinearSink(linears):
            producers = list(linears)
    ratios = [(folded[f"{name}.bias"].double() / original[f"{name}.bias"].double()).numpy() for name in producers]
    for ratio in ratios[1:]:
        np.testing.assert_allclose(ratio, ratios[0], rtol=FP32_ROUNDING)
    return ratios[0]


@pytest.mark.parametrize("alpha", [0.0, 0.75, 1.0])
def test_every_gain_is_one_over_smoothquants_s(
    alpha: float,
    i2v_model: Path,
    make_smoothed: MakeSmoothed,
    activations_of: Callable[[Path], Activations],
) -> None:
    artifact = make_smoothed(i2v_model, SmoothSettings(alpha=alpha))
    original, folded = _model_tensors(i2v_model), _tensors(artifact)
    topology = open_weights(artifact).components["transformer"].topology
    groups = [group for group in topology.groups if group.sink is not None]
    assert {group.name for group in groups} >= {"text", "image", "blocks.0.attn1.qkv", "blocks.1.ffn.up"}
    for group in groups:
        x_max = activations_of(i2v_model)["transformer", group.name].abs().amax(dim=0).double().numpy()
        rows = np.concatenate([original[f"{linear}.weight"].double().numpy() for linear in group.reads])
        s = (x_max**alpha / np.abs(rows).max(axis=0).clip(min=1e-5) ** (1 - alpha)).clip(min=1e-5)
        gain = _stored_gain(group, original, folded)
        # bf16 keeps 8 bits, so rounding moves the gain by up to half of 2⁻⁷; a bias's fp32 rounding adds to the ratio.
        np.testing.assert_allclose(gain, 1 / s, rtol=BF16_ROUNDING + FP32_ROUNDING)


def test_gains_are_bf16_values_and_weights_are_divided_by_exactly_them(smoothed: Path, i2v_model: Path) -> None:
    original, folded = _model_tensors(i2v_model), _tensors(smoothed)
    for block in range(2):
        for norm, linear in (("norm1", "attn1.to_q"), ("norm3", "ffn.net.0.proj")):
            gain = folded[f"blocks.{block}.{norm}.gain"]
            weight = f"blocks.{block}.{linear}.weight"
            assert gain.dtype == torch.float32
            assert torch.all(is_bf16(gain))
            assert not torch.any(gain == 1)
            assert torch.equal(folded[weight], original[weight].float() / gain)


# --- what is stored ------------------------------------------------------------------------------


def test_llmcs_groups_touch_three_places_per_block(i2v_model: Path, make_smoothed: MakeSmoothed) -> None:
    artifact = make_smoothed(i2v_model, SmoothSettings(groups="llmc"))
    original, folded = _model_tensors(i2v_model), _tensors(artifact)
    touched = {name for name in original if not torch.equal(folded[name].float(), original[name].float())}
    expected = ["attn1.to_q.weight", "attn1.to_k.weight", "attn1.to_v.weight", "norm2.weight", "norm2.bias"]
    expected += ["attn2.to_q.weight", "ffn.net.0.proj.weight"]
    assert touched == {f"blocks.{block}.{name}" for block in range(2) for name in expected}
    assert set(open_weights(artifact).decisions("transformer")) == {
        f"blocks.{block}.{place}" for block in range(2) for place in LLMC_PLACES
    }


def test_a_target_without_gains_gets_one_for_all_blocks(i2v_model: Path, make_smoothed: MakeSmoothed) -> None:
    artifact = make_smoothed(i2v_model, SmoothSettings(target="comfyui"))
    folded = _tensors(artifact)
    component = open_weights(artifact).components["transformer"]
    for across in component.topology.across_blocks:
        gain = component.gain(across.gain)
        assert torch.all(is_bf16(gain))
        assert float(gain.min()) == 1
        assert float(gain.max()) > 1
        for group in across.members:
            assert torch.equal(component.input_gain(group), gain)
    for block in range(2):
        for norm in ("norm1", "norm3"):
            assert (folded[f"blocks.{block}.{norm}.gain"] == 1).all()
        for group in ("attn1.out", "attn2.q", "attn2.out"):
            assert (folded[f"blocks.{block}.{group}.gain"] != 1).any(), group
    assert (folded["text.gain"] != 1).any()
    assert (folded["image.gain"] != 1).any()


@pytest.mark.parametrize(("name", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_folded_tensors_have_the_chosen_dtype_and_the_others_their_own(
    name: str, dtype: torch.dtype, i2v_model: Path, make_smoothed: MakeSmoothed
) -> None:
    folded = _tensors(make_smoothed(i2v_model, SmoothSettings(dtype=name)))
    original = _model_tensors(i2v_model)
    assert folded["blocks.0.attn1.to_q.weight"].dtype == dtype
    assert folded["condition_embedder.text_embedder.linear_2.bias"].dtype == dtype
    for kept in ("blocks.0.ffn.net.2.weight", "blocks.1.attn1.to_q.bias", "patch_embedding.weight", "proj_out.bias"):
        assert folded[kept].dtype == original[kept].dtype
        assert torch.equal(folded[kept], original[kept])
    gains = {key: tensor for key, tensor in folded.items() if key.endswith(".gain")}
    assert {tensor.dtype for tensor in gains.values()} == {torch.float32}


def test_none_changes_no_bit(i2v_model: Path, tmp_path: Path) -> None:
    folded = _tensors(_smooth(i2v_model, None, tmp_path / "plain", method="none"))
    for name, tensor in _model_tensors(i2v_model).items():
        assert folded[name].dtype == tensor.dtype
        assert torch.equal(folded.pop(name), tensor)
    groups = open_weights(tmp_path / "plain").components["transformer"].topology.groups
    assert set(folded) == {group.gain for group in groups} | {
        f"blocks.{b}.{n}.gain" for b in (0, 1) for n in ("norm1", "norm3")
    }
    assert all(torch.all(gain == 1) for gain in folded.values())


def test_decisions_say_what_s_was(smoothed: Path) -> None:
    decisions = open_weights(smoothed).decisions("transformer")
    topology = open_weights(smoothed).components["transformer"].topology
    assert set(decisions) == {group.name for group in topology.groups if group.sink is not None}
    s = 1 / _tensors(smoothed)["blocks.1.norm3.gain"]
    assert decisions["blocks.1.ffn.up"] == {
        "method": "smoothquant",
        "alpha": 0.75,
        "s_min": float(s.min()),
        "s_median": float(s.median()),
        "s_max": float(s.max()),
    }


def test_both_experts_are_smoothed_by_their_own_statistics(
    make_model: MakeModel, make_stats: MakeStats, t2v_config: Config, tmp_path: Path
) -> None:
    model = make_model(t2v_config, t2v_config)
    artifact = _smooth(model, make_stats(model), tmp_path / "smoothed")
    for component in ("transformer", "transformer_2"):
        before = _outputs(_model_tensors(model, component), 2)
        assert _largest_difference(before, _outputs(_tensors(artifact, component), 2)) < FP32_ROUNDING
    first, second = (
        _tensors(artifact, component)["blocks.0.norm1.gain"] for component in ("transformer", "transformer_2")
    )
    assert not torch.equal(first, second)
