"""Whole transformers from the artifacts compute the same function as diffusers' own.

Every model here computes on one random input, in fp32 on the CPU where nothing else is said; errors are
‖Δ‖ / ‖reference‖.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import WanTransformer3DModel
from tests.comparing import FP32_ROUNDING, prediction, relative_error
from torch import Tensor, nn

from vq_core.artifacts.checkpoint import ConvertedCheckpoint, open_checkpoint
from vq_core.artifacts.converted import open_converted
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.weights import open_weights
from vq_core.model.source import open_source
from vq_core.numerics.quantize import dequantize
from vq_core.numerics.scheme import NumberFormat
from vq_core.runtime.device import runtime_dtype
from vq_core.sampling.pipeline_layout import read_layout
from vq_core.targets import target_named
from vq_core.testing.artifacts import write_qparams
from vq_eval.videos.fake_quant_linear import FakeQuantLinear
from vq_eval.videos.variants import apply_fake_quant, apply_smoothed
from vq_export.verify.checks.fidelity import compare
from vq_export.verify.reference import model_reference
from vq_infer.attention import sdpa
from vq_infer.engine.transformer import load_transformer
from vq_infer.memory.needs import read_memory


def replace_weights(model: nn.Module, change: Callable[[str, Tensor], Tensor]) -> None:
    """Replace every block linear's weight by `change(linear, weight)`."""
    with torch.no_grad():
        for name, module in model.named_modules():
            if isinstance(module, nn.Linear) and name.startswith("blocks."):
                module.weight.copy_(change(name, module.weight))


def test_folded_model_equals_the_original_to_fp32_rounding(
    original: nn.Module, smoothed: Path, inputs: dict[str, Tensor]
) -> None:
    before = prediction(original, inputs)
    apply_smoothed(original, open_weights(smoothed).components["transformer"], "cpu")
    assert relative_error(prediction(original, inputs), before) < FP32_ROUNDING


@pytest.fixture(scope="module")
def rotated(run: Any, tiny_model: Any, smoothed: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Artifacts for a target, smoothed and rotated, in `FOLDER/smoothed`, `FOLDER/qparams` and `FOLDER/ckpt`.

    `center` subtracts random means as well, of which the statistics of a random model have none. The linears of `kept`
    stay in full precision.
    """

    def make(target: str, scheme: str, *, center: bool = False, kept: tuple[str, ...] = ()) -> Path:
        folder = tmp_path_factory.mktemp(f"{target}-{scheme}")
        stats = ("--stats", smoothed.parent / "stats", "--target", target)
        run("vq-algos smooth", "--model", tiny_model("i2v"), *stats, "-o", folder / "smoothed")
        weights = ("--weights", folder / "smoothed")
        if center:
            rotation = target_named(target).rotation
            write_qparams(
                folder / "smoothed",
                folder / "qparams",
                scheme,
                rotation=rotation,
                center=True,
                subtract=target_named(target).subtracts,
                kept=kept,
            )
        else:
            run("vq-algos quantize", *weights, "--scheme", scheme, "--rotate", "all", "-o", folder / "qparams")
        run(f"vq-export {target}", *weights, "--qparams", folder / "qparams", "-o", folder / "ckpt", "--device", "cpu")
        return folder

    return make


@pytest.fixture(params=["int8", "fp8"])
def checkpoints(
    request: Any, run: Any, tiny_model: Any, quantized: Any, tmp_path: Path
) -> dict[str, ConvertedCheckpoint]:
    """A smoothed and a plainly rounded checkpoint of one scheme."""
    run("vq-export lightx2v", "--model", tiny_model("i2v"), "--scheme", request.param, "-o", tmp_path / "rtn")
    folders = {"smoothed": quantized(request.param) / "ckpt", "rtn": tmp_path / "rtn"}
    return {name: open_checkpoint(folder) for name, folder in folders.items()}


@pytest.mark.parametrize("kind", ["smoothed", "rtn"])
def test_checkpoint_differs_from_the_original_by_its_weights_rounding_alone(
    checkpoints: dict[str, ConvertedCheckpoint],
    kind: str,
    original: nn.Module,
    tiny_model: Any,
    smoothed: Path,
    inputs: Any,
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
    not_quantized = component.topology.tensors.keys() - component.topology.weights
    from_checkpoint.load_state_dict(component.plain(not_quantized), strict=False)
    for linear in component.topology.linears:
        module = from_checkpoint.get_submodule(linear.name)
        gain = component.topology.gain_of(linear.name)
        applied = component.gain(gain) if gain is not None else None
        module.weight.data.copy_(rounded[linear.name] if applied is None else rounded[linear.name] * applied)

    before = prediction(original, inputs)
    source = open_source(str(tiny_model("i2v")))
    unfolded = {f"{name}.weight": weight for name, weight in rounded.items()}
    if kind == "smoothed":
        unfolded = _unfolded(unfolded, weights, source)
    replace_weights(original, lambda name, weight: unfolded[f"{name}.weight"])
    if kind == "smoothed":  # the biases too were rounded, to bfloat16, after the fold
        biases = component.plain(component.topology.biases)
        for name, bias in _unfolded(biases, weights, source).items():
            original.get_parameter(name).data.copy_(bias)
    assert relative_error(prediction(from_checkpoint, inputs), prediction(original, inputs)) < FP32_ROUNDING
    left = relative_error(prediction(from_checkpoint, inputs), before)
    print(f"{checkpoint.scheme} {kind}: {left:.4f} from rounding the weights alone")
    assert left < {"int8": 0.06, "fp8": 0.15}[checkpoint.scheme]
    fidelity = compare(checkpoint, model_reference(source, checkpoint))["transformer"]
    assert min(error.snr_db for error in fidelity.linears.values()) > 25
    assert fidelity.other == []


def _unfolded(rounded: dict[str, Tensor], weights: Any, source: Any) -> dict[str, Tensor]:
    """Rounded folded tensors in the original's terms: times the elementwise ratio of original to folded tensor."""
    folded, plain = weights.plain(rounded), source.components["transformer"].plain(rounded)
    return {
        name: tensor * torch.where(plain[name] != 0, plain[name].float() / folded[name], 1.0)
        for name, tensor in rounded.items()
    }


ROADS = ("lightx2v int8", "lightx2v fp8", "comfyui int8", "native int8", "native fp8", "comfyui w6a8", "native w4a8")
MIXED = ("native int8+fp8", "comfyui w4a8+int8")


KEPT = (
    "blocks.0.attn1.to_q", "blocks.0.attn1.to_k", "blocks.0.attn1.to_v", "blocks.1.attn1.to_out.0",
    "blocks.0.attn2.to_q", "blocks.1.attn2.to_k", "blocks.1.attn2.to_v", "blocks.1.attn2.to_out.0",
    "blocks.0.attn2.add_k_proj", "blocks.0.attn2.add_v_proj", "blocks.0.ffn.net.0.proj", "blocks.1.ffn.net.2",
)  # fmt: skip
"""Each part of a block once, with neighbours that are quantized."""


CENTERED = (
    "lightx2v int8 centered",
    *(
        f"{road} centered kept"
        for road in (*ROADS, *MIXED)
        if road not in ("lightx2v int8", "lightx2v fp8", "comfyui w6a8")
    ),
)


@pytest.fixture(scope="module", params=[*ROADS, *CENTERED])
def calibrated(request: Any, quantized: Any, smoothed: Path, rotated: Any) -> tuple[ConvertedCheckpoint, Path]:
    """A checkpoint, and the smoothed weights that it was made from; those for targets that rotate are rotated."""
    target, scheme, *more = request.param.split()
    if target == "lightx2v" and not more:
        return open_converted(quantized(scheme) / "ckpt"), smoothed
    folder = rotated(target, scheme, center="centered" in more, kept=KEPT if "kept" in more else ())
    return open_converted(folder / "ckpt"), folder / "smoothed"


def test_engine_and_simulation_compute_the_same_function(
    calibrated: tuple[ConvertedCheckpoint, Path], original: nn.Module, inputs: Any
) -> None:
    checkpoint, smoothed = calibrated
    engine = engine_of(checkpoint, "cpu")
    before = prediction(original, inputs)
    simulate(original, checkpoint, smoothed, "cpu")
    simulated, real = prediction(original, inputs), prediction(engine, inputs)
    # fp32 rounding can move an activation across the border between two codes, which then differ by one step.
    assert relative_error(real, simulated) < 0.1 * relative_error(simulated, before)


def test_memory_is_planned_for_the_files_and_one_decoded_weight(
    calibrated: tuple[ConvertedCheckpoint, Path], tiny_model: Any
) -> None:
    checkpoint, component = calibrated[0], calibrated[0].components["transformer"]
    found = read_memory(checkpoint, read_layout(tiny_model("i2v")), itemsize=2, fused=True)
    stored = sum(path.stat().st_size for path in checkpoint.artifact.path.rglob("*.safetensors"))
    assert 0.7 * stored < found.transformers["transformer"].total < stored
    config = component.config
    dim = int(str(config["num_attention_heads"])) * int(str(config["attention_head_dim"]))
    together = dim * max(3 * dim, int(str(config["ffn_dim"])))  # queries, keys and values, or a feed-forward's linear
    assert found.decoded == (together if any(scheme.grouped for scheme in checkpoint.schemes) else 0)


PARTS = {
    "qkv": ("attn1.to_q", "attn1.to_k", "attn1.to_v"),
    "out": ("attn1.to_out.0",),
    "cross_q": ("attn2.to_q",),
    "cross_kv": ("attn2.to_k", "attn2.to_v"),
    "image_kv": ("attn2.add_k_proj", "attn2.add_v_proj"),
    "cross_out": ("attn2.to_out.0",),
    "up": ("ffn.net.0.proj",),
    "down": ("ffn.net.2",),
}
"""The linears of diffusers' block that each of the engine's stands for."""

TOLERANCES = {
    ("cpu", NumberFormat.INT8): (1e-6, 1e-3),
    ("cpu", NumberFormat.FP8_E4M3): (1e-6, 5e-3),
    ("cuda", NumberFormat.INT8): (2e-3, 0.03),
    ("cuda", NumberFormat.FP8_E4M3): (5e-3, 0.04),
}
"""Of a linear's output and of what a block adds, ‖Δ‖ / ‖simulated‖.

On the CPU all is fp32: a linear's sums are in another order, and between the linears of a block that moves an
activation across the border between two codes now and then, which are 6 % apart in FP8. On CUDA all but the sums is
bfloat16, 2⁻⁹ at every step of both, and the sums of the engine's FP8 have 14 bits.
"""


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_engine_and_simulation_agree_in_every_linear_and_block(
    calibrated: tuple[ConvertedCheckpoint, Path], tiny_model: Any, inputs: Any, device: str
) -> None:
    """On the inputs that the simulated model itself gives them: errors of one are not handed on to the next."""
    (checkpoint, smoothed), dtype = calibrated, runtime_dtype(torch.device(device))
    tolerances = [TOLERANCES[device, scheme.activation] for scheme in checkpoint.schemes]
    of_linear, of_block = map(max, zip(*tolerances, strict=True))
    engine = engine_of(checkpoint, device)
    simulated = WanTransformer3DModel.from_pretrained(tiny_model("i2v") / "transformer", torch_dtype=dtype).to(device)
    simulate(simulated, checkpoint, smoothed, device)
    seen: dict[nn.Module, tuple[tuple[Any, ...], Tensor]] = {}
    for module in simulated.modules():
        if isinstance(module, FakeQuantLinear | nn.Linear) or module in list(simulated.blocks):
            module.register_forward_hook(lambda module, given, made: seen.update({module: (given, made)}))
    placed = {name: tensor.to(device, dtype) for name, tensor in inputs.items()}
    prediction(simulated, placed | {"timestep": inputs["timestep"].to(device)})
    for own, block in zip(engine.blocks, simulated.blocks, strict=True):
        for part, names in PARTS.items():
            linears = [seen[block.get_submodule(name)] for name in names]
            expected = torch.cat([made for _, made in linears], dim=-1)
            assert relative_error(getattr(own, part)(*linears[0][0]), expected) < of_linear, part
        given, made = seen[block]
        with torch.no_grad():
            assert relative_error(own(*given) - given[0], made - given[0]) < of_block


def engine_of(checkpoint: ConvertedCheckpoint, device: str) -> Any:
    """The engine's transformer."""
    component = checkpoint.components["transformer"]
    return load_transformer(component, torch.device(device), "tiny", sdpa)


def simulate(model: nn.Module, checkpoint: ConvertedCheckpoint, smoothed: Path, device: str) -> None:
    """Make `model` what fake-quant runs of the artifacts that `checkpoint` was written from."""
    weights = open_weights(smoothed).components["transformer"]
    qparams = open_qparams(checkpoint.artifact.path.parent / "qparams")
    apply_smoothed(model, weights, device)
    apply_fake_quant(model, weights, qparams, "transformer", device)
