"""Quantization of whole models with sampled tokens: errors as recorded, biases, provenance and refusals."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vq_algos.layer import hessian
from vq_algos.rounding import rounders
from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_core.artifacts.qparams import QuantParams, open_qparams
from vq_core.artifacts.stats import ActivationStats
from vq_core.artifacts.weights import SmoothedTransformer, open_weights
from vq_core.discover import plugin_names
from vq_core.errors import VqError
from vq_core.numerics.quantize import quantize_weight
from vq_core.numerics.scheme import Rounding, scheme_named
from vq_core.sampling.schedule import BUCKETS

Config = dict[str, Any]
MakeModel = Callable[..., Path]
MakeSmoothed = Callable[..., Path]
MakeStats = Callable[..., Path]
MakeTokenStats = Callable[[Path], ActivationStats]
OutputSnr = Callable[..., float]

METHODS = plugin_names(rounders.__name__)
RECORDED_DB = 2e-3
FIGURES = {"output_snr_db", "rtn_output_snr_db", "activation_snr_db", "weight_only_snr_db", "bucket_snr_db"}


def _quantize(
    weights: Path, output: Path, stats: ActivationStats | None, scheme: str = "int8", **settings: Any
) -> QuantParams:
    quantize(open_weights(weights), QuantizeSettings(scheme, **settings), output, stats=stats)
    return open_qparams(output)


def _original(component: SmoothedTransformer, linear: str) -> tuple[Tensor, Tensor]:
    return tuple(component.plain([f"{linear}.weight", f"{linear}.bias"]).values())  # type: ignore[return-value]


@pytest.mark.parametrize("scheme", ["int8", "fp8"])
@pytest.mark.parametrize("method", METHODS)
def test_the_recorded_errors_are_those_of_the_runtimes_function(
    method: str, scheme: str, smoothed: Path, stats: Any, tmp_path: Path, output_snr: OutputSnr
) -> None:
    qparams = _quantize(smoothed, tmp_path / "qparams", stats, scheme, method=method)
    component = open_weights(smoothed).components["transformer"]
    replaced = qparams.replaced("transformer")
    decisions = qparams.decisions("transformer")
    assert list(decisions) == [linear.name for linear in component.topology.linears]
    for linear, decision in decisions.items():
        assert decision.keys() >= FIGURES | {"method", "weight_snr_db", "bias_corrected"}
        assert decision["bias_corrected"] is (f"{linear}.bias" in replaced)
        weight, bias = _original(component, linear)
        plain = quantize_weight(weight, scheme_named(scheme).weight)
        tokens = stats.tokens("transformer", component.topology.group_of(linear).name, "held-out")
        (ours,) = qparams.replacements("transformer", [f"{linear}.bias"]).values() or (bias.float(),)
        assert ours.dtype == torch.float32
        expected = output_snr(component, linear, tokens, qparams.linear("transformer", linear), ours, scheme)
        assert decision["output_snr_db"] == pytest.approx(expected, abs=RECORDED_DB)
        expected = output_snr(component, linear, tokens, plain, bias, scheme)
        assert decision["rtn_output_snr_db"] == pytest.approx(expected, abs=RECORDED_DB)
        assert len(decision["bucket_snr_db"]) == BUCKETS
        timeless = linear.endswith(("attn2.to_k", "attn2.to_v", "add_k_proj", "add_v_proj"))
        assert [one is None for one in decision["bucket_snr_db"]] == [timeless or b < 2 for b in range(BUCKETS)]


def test_auto_is_better_than_plain_rounding_and_never_worse(smoothed: Path, stats: Any, tmp_path: Path) -> None:
    decisions = _quantize(smoothed, tmp_path / "qparams", stats, "fp8", method="auto").decisions("transformer")
    gains = [one["output_snr_db"] - one["rtn_output_snr_db"] for one in decisions.values()]
    assert min(gains) >= 0
    assert sum(gains) / len(gains) > 0.3
    assert {one["method"] for one in decisions.values()} <= {"rtn", "clip", "gptq"}


def test_plain_rounding_is_judged_and_its_codes_stay(smoothed: Path, stats: Any, tmp_path: Path) -> None:
    judged = _quantize(smoothed, tmp_path / "judged", stats)
    plain = _quantize(smoothed, tmp_path / "plain", None)
    for linear, decision in plain.decisions("transformer").items():
        assert torch.equal(judged.linear("transformer", linear).codes, plain.linear("transformer", linear).codes)
        assert decision.items() <= judged.decisions("transformer")[linear].items()
    assert judged.replaced("transformer")
    assert not plain.replaced("transformer")


@pytest.mark.parametrize("method", METHODS)
def test_two_runs_give_the_same_artifact(method: str, smoothed: Path, stats: Any, tmp_path: Path) -> None:
    first, second = (_quantize(smoothed, tmp_path / name, stats, method=method) for name in ("one", "two"))
    assert first.artifact.digest == second.artifact.digest


def test_the_artifact_says_what_it_was_made_from(smoothed: Path, stats: Any, tmp_path: Path) -> None:
    manifest = _quantize(smoothed, tmp_path / "qparams", stats, method="auto").artifact.manifest
    assert manifest.parents == {
        "smoothed-weights": open_weights(smoothed).artifact.digest,
        "activation-stats": stats.artifact.digest,
    }
    assert manifest.settings["bias_correction"] is True


def test_every_input_of_a_block_is_factored_once_a_damping(
    smoothed: Path, stats: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    cholesky = torch.linalg.cholesky_ex
    monkeypatch.setattr(
        hessian.torch.linalg, "cholesky_ex", lambda h, out: (sizes.append(len(h)), cholesky(h, out=out))[1]
    )
    _quantize(smoothed, tmp_path / "qparams", stats, method="gptq")
    # Four dampings of seven groups of 32 channels and one of 80 in each of two blocks.
    assert sorted(sizes) == [32] * 4 * 2 * 7 + [80] * 4 * 2


def test_both_experts_are_solved_on_their_own_tokens(
    make_model: MakeModel,
    make_smoothed: MakeSmoothed,
    make_token_stats: MakeTokenStats,
    t2v_config: Config,
    tmp_path: Path,
) -> None:
    model = make_model(t2v_config, t2v_config, name="experts")
    qparams = _quantize(make_smoothed(model), tmp_path / "qparams", make_token_stats(model), method="auto")
    assert set(qparams.artifact.manifest.components) == {"transformer", "transformer_2"}
    assert qparams.decisions("transformer") != qparams.decisions("transformer_2")


def test_matrix_products_are_in_full_precision_and_the_setting_is_restored(
    smoothed: Path, stats: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = set()
    factor = hessian.Hessian.factor

    def watched(self: hessian.Hessian, damp: float) -> hessian.Factor:
        seen.add(torch.get_float32_matmul_precision())
        return factor(self, damp)

    monkeypatch.setattr(hessian.Hessian, "factor", watched)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        _quantize(smoothed, tmp_path / "qparams", stats, method="gptq")
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
    assert seen == {"highest"}


@pytest.mark.gpu
@pytest.mark.parametrize("scheme", ["int8", "fp8"])
def test_on_cuda_it_is_as_good_as_on_the_cpu(scheme: str, smoothed: Path, stats: Any, tmp_path: Path) -> None:
    settings = QuantizeSettings(scheme, "auto", Rounding.NEAREST_EVEN.value)
    for device in ("cpu", "cuda"):
        quantize(open_weights(smoothed), settings, tmp_path / device, stats=stats, device=device)
    on_cpu, on_cuda = (open_qparams(tmp_path / device).decisions("transformer") for device in ("cpu", "cuda"))
    for linear, decision in on_cpu.items():
        assert on_cuda[linear]["output_snr_db"] == pytest.approx(decision["output_snr_db"], abs=0.3)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_missing_statistics_and_statistics_without_tokens_are_refused(
    method: str, smoothed: Path, stats: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if method != "rtn":
        with pytest.raises(VqError, match=f"`{method}` needs sampled tokens .*--tokens .*--stats"):
            _quantize(smoothed, tmp_path / "out", None, method=method)
    monkeypatch.setattr(type(stats), "has_tokens", False)
    with pytest.raises(VqError, match=f"token-stats holds no sampled tokens to solve or judge `{method}` on.*--tokens"):
        _quantize(smoothed, tmp_path / "out", stats, method=method)
    assert not list(tmp_path.glob("out*"))


def test_statistics_of_another_model_are_refused(
    make_model: MakeModel, make_token_stats: MakeTokenStats, i2v_config: Config, smoothed: Path, tmp_path: Path
) -> None:
    other = make_token_stats(make_model(i2v_config, name="other", seed=7))
    with pytest.raises(VqError, match="token-stats was made from another model .*other.* than .*smoothed"):
        _quantize(smoothed, tmp_path / "out", other, method="auto")
    assert not list(tmp_path.glob("out*"))
