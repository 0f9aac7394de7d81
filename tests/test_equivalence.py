"""What the artifacts claim about functions, tested on whole transformers against diffusers' own.

Every model here computes in fp32 on the CPU, on one random input; errors are ‖Δ‖ / ‖reference‖.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from torch import Tensor, nn

from vq_core.artifacts.checkpoint import Checkpoint, open_checkpoint
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.numerics.quantize import dequantize
from vq_core.source import open_source
from vq_eval.variants import apply_fake_quant, apply_smoothed
from vq_export.fidelity import compare
from vq_export.reference import model_reference
from vq_infer.attention import sdpa
from vq_infer.transformer import load_transformer

FP32_ROUNDING = 2e-5


@pytest.fixture
def original(tiny_model: Any) -> nn.Module:
    loaded = WanTransformer3DModel.from_pretrained(tiny_model("i2v") / "transformer", torch_dtype=torch.float32)
    return loaded.eval()


@torch.no_grad()
def output(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
    """The transformer's prediction."""
    return model(**inputs, return_dict=False)[0]


def relative_error(candidate: Tensor, reference: Tensor) -> float:
    return float((candidate - reference).norm() / reference.norm())


def replace_weights(model: nn.Module, change: Callable[[str, Tensor], Tensor]) -> None:
    """Replace every block linear's weight by `change(linear, weight)`."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and name.startswith("blocks."):
                module.weight.copy_(change(name, module.weight))


def test_folded_model_equals_the_original_to_fp32_rounding(
    original: nn.Module, smoothed: Path, inputs: dict[str, Tensor]
) -> None:
    before = output(original, inputs)
    apply_smoothed(original, open_weights(smoothed).components["transformer"], "cpu")
    assert relative_error(output(original, inputs), before) < FP32_ROUNDING


@pytest.fixture(params=["int8", "fp8"])
def checkpoints(request: Any, run: Any, tiny_model: Any, smoothed: Path, tmp_path: Path) -> dict[str, Checkpoint]:
    """A smoothed and a plainly rounded checkpoint of one scheme."""
    run("vq-algos quantize", "--weights", smoothed, "--scheme", request.param, "-o", tmp_path / "qparams")
    run("vq-export lightx2v", "--weights", smoothed, "--qparams", tmp_path / "qparams", "-o", tmp_path / "smoothed")
    run("vq-export lightx2v", "--model", tiny_model("i2v"), "--scheme", request.param, "-o", tmp_path / "rtn")
    return {name: open_checkpoint(tmp_path / name) for name in ("smoothed", "rtn")}


@pytest.mark.parametrize("kind", ["smoothed", "rtn"])
def test_checkpoint_differs_from_the_original_by_its_weights_rounding_alone(
    checkpoints: dict[str, Checkpoint], kind: str, original: nn.Module, tiny_model: Any, smoothed: Path, inputs: Any
) -> None:
    """Without activation quantization, the checkpoint is the original with each weight replaced by its rounded value.

    The rounded value in the original's terms is Ŵ unfolded; the model with these weights, otherwise untouched, and the
    checkpoint's own function (its codes, scales, gains, norms and biases) must be the same function.
    """
    checkpoint = checkpoints[kind]
    component = checkpoint.components["transformer"]
    weights = open_weights(smoothed).components["transformer"]
    rounded = {linear.name: dequantize(component.linear(linear.name)) for linear in component.topology.linears}

    from_checkpoint = WanTransformer3DModel.from_config(component.config).eval()
    from_checkpoint.load_state_dict(component.plain(), strict=False)
    for linear in component.topology.linears:
        module = from_checkpoint.get_submodule(linear.name)
        gain = component.topology.gain_of(linear.name)
        applied = component.gain(gain) if gain is not None else None
        module.weight.data.copy_(rounded[linear.name] if applied is None else rounded[linear.name] * applied)

    before = output(original, inputs)
    source = open_source(str(tiny_model("i2v")))
    unfolded = _unfolded(rounded, checkpoint, weights, source) if kind == "smoothed" else rounded
    replace_weights(original, lambda name, weight: unfolded[name])
    assert relative_error(output(from_checkpoint, inputs), output(original, inputs)) < FP32_ROUNDING
    left = relative_error(output(from_checkpoint, inputs), before)
    print(f"{checkpoint.scheme.name} {kind}: {left:.4f} from rounding the weights alone")
    assert left < {"int8": 0.06, "fp8": 0.15}[checkpoint.scheme.name]
    fidelity = compare(checkpoint, model_reference(source, checkpoint))["transformer"]
    assert min(error.snr_db for error in fidelity.linears.values()) > 25
    assert fidelity.other == []


def _unfolded(rounded: dict[str, Tensor], checkpoint: Checkpoint, weights: Any, source: Any) -> dict[str, Tensor]:
    """Rounded folded weights in the original's terms: times the elementwise ratio of original to folded weight."""
    names = [f"{name}.weight" for name in rounded]
    folded, plain = weights.load(names), source.components["transformer"].load(names)
    return {
        name: rounded[name]
        * torch.where(plain[f"{name}.weight"] != 0, plain[f"{name}.weight"].float() / folded[f"{name}.weight"], 1.0)
        for name in rounded
    }


def test_engine_and_simulation_compute_the_same_function(
    checkpoints: dict[str, Checkpoint], original: nn.Module, smoothed: Path, inputs: Any
) -> None:
    checkpoint = checkpoints["smoothed"]
    engine = load_transformer(
        checkpoint.components["transformer"], checkpoint.scheme, torch.device("cpu"), "tiny", sdpa
    )
    weights = open_weights(smoothed).components["transformer"]
    qparams = open_qparams(checkpoint.artifact.path.parent / "qparams")
    before = output(original, inputs)
    apply_smoothed(original, weights, "cpu")
    apply_fake_quant(original, weights, qparams, "transformer", "cpu")
    simulated, real = output(original, inputs), output(engine, inputs)
    # fp32 rounding can move an activation across the border between two codes, which then differ by one step.
    assert relative_error(real, simulated) < 0.1 * relative_error(simulated, before)
