"""Our node for ComfyUI, on a stand-in for the function of ComfyUI that it wraps.

That the real one fits is tried by hand: see docs/formats/comfyui-checkpoint.md.
"""

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

NODE = Path(__file__).parent.parent / "integrations" / "comfyui" / "vq" / "__init__.py"


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, Tensor]], tuple[nn.Module, dict[str, Any]]]:
    """Fill a linear from a state dict as ComfyUI does with the node; the linear, and what ComfyUI's part was given."""
    seen: dict[str, Any] = {}
    comfy, ops = ModuleType("comfy"), ModuleType("comfy.ops")

    def load(
        module: nn.Module, super_load: Any, state_dict: dict[str, Tensor], prefix: str, *_: Any, **__: Any
    ) -> None:
        seen.update({name.removeprefix(prefix): tensor for name, tensor in state_dict.items()})

    ops._load_quantized_module = load  # type: ignore[attr-defined]
    ops.INPUT_ACT_EAGER = {"relu": torch.relu}  # type: ignore[attr-defined]
    ops.linear_input_act = lambda linear, x, act: "fused"  # type: ignore[attr-defined]
    comfy.ops = ops  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "comfy", comfy)
    monkeypatch.setitem(sys.modules, "comfy.ops", ops)
    runpy.run_path(str(NODE))

    def fill(state_dict: dict[str, Tensor]) -> tuple[nn.Module, dict[str, Any]]:
        module = nn.Module()
        module.factory_kwargs = {"device": "cpu"}  # type: ignore[assignment]
        prefixed = {f"blocks.0.ffn.0.{name}": tensor for name, tensor in state_dict.items()}
        ops._load_quantized_module(module, None, prefixed, "blocks.0.ffn.0.", {}, True, [], [], [])
        return module, seen

    return fill


def marker(**layer: object) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(layer).encode()), dtype=torch.uint8)


@pytest.mark.parametrize(("ours", "known"), [("vq_int8_gain", "int8_tensorwise"), ("vq_w4a8_gain", "asym_w4a8_int8")])
def test_a_gain_becomes_what_comfyui_multiplies_by(loaded: Any, ours: str, known: str) -> None:
    gain, rotation = torch.rand(8), {"convrot": True, "convrot_groupsize": 4}
    stored = {
        "comfy_quant": marker(format=ours, **rotation),
        "pre_quant_scale": gain,
        "weight": torch.ones(2),
    }
    module, seen = loaded(stored)
    assert json.loads(seen["comfy_quant"].numpy().tobytes()) == {"format": known, **rotation}
    assert seen.keys() == {"comfy_quant", "weight"}
    assert torch.equal(module.pre_quant_scale, gain)
    assert not module.pre_quant_scale.requires_grad


@pytest.mark.parametrize(("ours", "known"), [("vq_int8_mean", "int8_tensorwise"), ("vq_w4a8_mean", "asym_w4a8_int8")])
def test_a_mean_is_subtracted_from_the_input(loaded: Any, ours: str, known: str) -> None:
    mean, x = torch.rand(8), torch.rand(3, 8)
    module, seen = loaded({"comfy_quant": marker(format=ours), "pre_quant_mean": mean, "weight": torch.ones(2)})
    assert json.loads(seen["comfy_quant"].numpy().tobytes()) == {"format": known}
    assert seen.keys() == {"comfy_quant", "weight"}
    module.forward = lambda read: read
    assert torch.equal(module(x), x - mean)
    ops = sys.modules["comfy.ops"]
    assert torch.equal(ops.linear_input_act(module, x - 0.5, "relu"), torch.relu(x - 0.5) - mean)
    assert ops.linear_input_act(nn.Module(), x, "relu") == "fused"
    assert module(x.bfloat16()).dtype == torch.bfloat16
    assert not module.pre_quant_mean.requires_grad


@pytest.mark.parametrize("layer", [{"format": "int8_tensorwise"}, {"format": "nvfp4"}])
def test_other_linears_are_left_alone(loaded: Any, layer: dict[str, object]) -> None:
    stored = {"comfy_quant": marker(**layer), "pre_quant_scale": torch.ones(2)}
    module, seen = loaded(stored)
    assert all(seen[name] is stored[name] for name in stored)
    assert not hasattr(module, "pre_quant_scale")
    loaded({"weight": torch.ones(2)})


@pytest.mark.parametrize(("fmt", "name"), [("vq_int8_gain", "pre_quant_scale"), ("vq_w4a8_mean", "pre_quant_mean")])
def test_what_is_missing_is_named(loaded: Any, fmt: str, name: str) -> None:
    with pytest.raises(ValueError, match=rf"blocks\.0\.ffn\.0\.{name} is missing"):
        loaded({"comfy_quant": marker(format=fmt)})


WORKFLOWS = sorted((NODE.parent.parent / "workflows").glob("*.json"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_reads_what_is_exported_and_every_link_leads_somewhere(path: Path) -> None:
    nodes = json.loads(path.read_text())
    links = [(value, node) for node in nodes.values() for value in node["inputs"].values() if isinstance(value, list)]
    assert links
    assert all(source in nodes and isinstance(index, int) for (source, index), _ in links)
    ends = nodes.keys() - {source for (source, _), _ in links}
    assert {nodes[end]["class_type"] for end in ends} == {"SaveWEBM"}
    (loader,) = (node for node in nodes.values() if node["class_type"] == "UNETLoader")
    assert loader["inputs"]["unet_name"] == f"{path.stem}_int8.safetensors"


def test_there_is_one_workflow_for_each_kind() -> None:
    assert [path.stem for path in WORKFLOWS] == ["wan_i2v", "wan_t2v"]
