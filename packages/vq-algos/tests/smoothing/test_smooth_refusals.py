"""What smoothing refuses: one sentence that names the culprit, and nothing left behind."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch import Tensor

from vq_algos.smoothing.smooth import SmoothSettings, smooth
from vq_core.artifacts.stats import open_stats
from vq_core.errors import VqError
from vq_core.model.source import open_source
from vq_core.store.resumable_folder import partial_folder

Config = dict[str, Any]
MakeModel = Callable[..., Path]
MakeStats = Callable[..., Path]
Activations = dict[tuple[str, str], Tensor]


def _smooth(model: Path, stats: Path | None, output: Path, method: str = "smoothquant") -> None:
    smooth(open_source(str(model)), open_stats(stats) if stats else None, SmoothSettings(method=method), output)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"method": "smothquant"},
            "`smothquant` is not one of the smoothers \\(auto, awq, noise, none, smoothquant\\)",
        ),
        ({"alpha": 1.01}, "alpha is 1.01 and must lie between 0 and 1"),
        ({"alpha": -0.5}, "alpha is -0.5 and must lie between 0 and 1"),
        ({"alpha": float("nan")}, "alpha is nan and must lie between 0 and 1"),
        ({"method": "auto"}, "`--scheme` is missing: `auto` tries the quantization to come; give int8 or fp8"),
        ({"scheme": "int4"}, "`int4` is not a scheme that the targets can run"),
        ({"awq_version": "v3"}, "`v3` is not a version of awq: choose one of v1, v2"),
        ({"groups": "some"}, "`some` is not a set of groups: choose one of all, llmc"),
        ({"target": "vllm"}, "`vllm` is not a target: choose one of lightx2v, native, comfyui"),
        (
            {"target": "comfyui", "scheme": "fp8"},
            "^ComfyUI reads one FP8 scale per tensor, and calibration gives one per channel: take int8, or convert the",
        ),
        ({"dtype": "fp16"}, "`fp16` is not a dtype for folded weights: choose one of fp32, bf16"),
    ],
)
def test_a_setting_that_does_not_exist_is_refused(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(VqError, match=sentence):
        SmoothSettings(**settings)


def _nothing_left(output: Path) -> bool:
    return not list(output.parent.glob(f"{output.name}*"))


def _finished(output: Path) -> list[str]:
    """The shards that a run which was refused has left for --resume."""
    return sorted(path.stem for path in partial_folder(output).rglob("*.safetensors"))


@pytest.mark.parametrize("method", ["auto", "awq", "noise"])
def test_statistics_without_the_tokens_that_the_method_needs_are_refused(
    method: str, i2v_model: Path, make_stats: MakeStats, tmp_path: Path
) -> None:
    stats, settings = open_stats(make_stats(i2v_model)), SmoothSettings(method=method, scheme="int8")
    with pytest.raises(VqError, match=f"`{method}` needs sampled tokens and .*stats holds none: run .* with --tokens"):
        smooth(open_source(str(i2v_model)), stats, settings, tmp_path / "out")
    assert _nothing_left(tmp_path / "out")


def test_statistics_of_another_model_are_refused(
    i2v_model: Path, make_model: MakeModel, make_stats: MakeStats, i2v_config: Config, tmp_path: Path
) -> None:
    other = make_stats(make_model(i2v_config, name="fine-tune", seed=9))
    with pytest.raises(VqError, match="stats was made from another model .*fine-tune.* than .*model"):
        _smooth(i2v_model, other, tmp_path / "out")
    assert _nothing_left(tmp_path / "out")


def test_statistics_that_lack_an_expert_are_refused(
    make_model: MakeModel, make_stats: MakeStats, t2v_config: Config, tmp_path: Path
) -> None:
    pipeline = make_model(t2v_config, t2v_config)
    stats = make_stats(pipeline / "transformer")
    with pytest.raises(VqError, match="stats knows nothing of transformer_2"):
        _smooth(pipeline, stats, tmp_path / "out")


NEVER_SEEN = "stats saw no input of {} in transformer"
NOT_FINITE = "`{}.absmax` in .*stats has 1 values of 32 that are NaN or infinite"


@pytest.mark.parametrize(
    ("group", "place", "value", "sentence", "finished"),
    [
        ("blocks.1.attn2.q", ..., 0.0, NEVER_SEEN, ["block_0"]),
        ("text", ..., 0.0, NEVER_SEEN, []),
        ("image", ..., 0.0, NEVER_SEEN, []),
        ("blocks.1.ffn.up", (3, 7), float("inf"), NOT_FINITE, ["block_0"]),
        ("blocks.1.ffn.up", (3, 7), float("nan"), NOT_FINITE, ["block_0"]),
    ],
)
def test_statistics_that_saw_nothing_or_are_not_finite_are_refused(
    group: str,
    place: Any,
    value: float,
    sentence: str,
    finished: list[str],
    i2v_model: Path,
    make_stats: MakeStats,
    activations_of: Callable[[Path], Activations],
    tmp_path: Path,
) -> None:
    activations = activations_of(i2v_model)
    activations["transformer", group][place] = value
    with pytest.raises(VqError, match=sentence.format(group)):
        _smooth(i2v_model, make_stats(i2v_model, activations), tmp_path / "out")
    assert _finished(tmp_path / "out") == finished
    assert finished or _nothing_left(tmp_path / "out")


@pytest.mark.parametrize(
    ("name", "method", "finished"),
    [
        ("blocks.0.ffn.net.2.bias", "smoothquant", []),
        ("blocks.0.ffn.net.2.bias", "none", []),
        ("blocks.1.attn2.to_k.weight", "smoothquant", []),  # the text is smoothed for all blocks at once
        ("blocks.1.attn2.to_k.weight", "none", ["block_0"]),
        ("blocks.1.attn1.to_q.weight", "smoothquant", ["block_0"]),
        ("blocks.1.attn1.to_q.weight", "none", ["block_0"]),
        ("proj_out.weight", "smoothquant", ["block_0", "block_1"]),
        ("proj_out.weight", "none", ["block_0", "block_1"]),
    ],
)
def test_nan_in_a_weight_is_refused_by_name_and_what_is_finished_is_kept(
    name: str,
    method: str,
    finished: list[str],
    make_model: MakeModel,
    make_stats: MakeStats,
    i2v_config: Config,
    tmp_path: Path,
) -> None:
    clean = load_file(make_model(i2v_config) / "diffusion_pytorch_model.safetensors")[name]
    damaged = clean.clone()
    damaged.view(-1)[damaged.numel() // 2] = float("nan")
    model = make_model(i2v_config, edit={name: damaged})
    with pytest.raises(VqError, match=f"`{name}` in .*model has 1 values of {clean.numel()} that are NaN"):
        _smooth(model, make_stats(model), tmp_path / "out", method=method)
    assert _finished(tmp_path / "out") == finished
    assert finished or _nothing_left(tmp_path / "out")


def test_an_output_that_exists_is_refused_and_left_alone(
    smoothed: Path, i2v_model: Path, make_stats: MakeStats
) -> None:
    before = (smoothed / "manifest.json").read_bytes()
    with pytest.raises(VqError, match="smoothed exists already"):
        _smooth(i2v_model, make_stats(i2v_model), smoothed)
    assert (smoothed / "manifest.json").read_bytes() == before


def test_a_damaged_statistics_file_is_refused(i2v_model: Path, make_stats: MakeStats, tmp_path: Path) -> None:
    stats = make_stats(i2v_model)
    file = stats / "transformer/block_1.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(VqError, match="block_1.safetensors is not the file that was written"):
        _smooth(i2v_model, stats, tmp_path / "out")
    assert _finished(tmp_path / "out") == ["block_0"]
