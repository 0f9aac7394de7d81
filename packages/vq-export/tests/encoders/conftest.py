"""A pipeline's encoders with random weights in transformers' layout, by tables of names that stand here."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

T5_CONFIG: dict[str, Any] = {
    "architectures": ["UMT5EncoderModel"],
    "vocab_size": 50, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 4,
    "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
    "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-06,
}  # fmt: skip
CLIP_CONFIG: dict[str, Any] = {
    "architectures": ["CLIPVisionModel"],
    "hidden_size": 16, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "image_size": 28, "patch_size": 14, "hidden_act": "gelu", "layer_norm_eps": 1e-05,
}  # fmt: skip

State = dict[str, Tensor]


def _t5_state() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {"shared.weight": (50, 24), "encoder.final_layer_norm.weight": (24,)}
    for layer in (f"encoder.block.{index}.layer" for index in range(2)):
        shapes |= {f"{layer}.0.SelfAttention.{part}.weight": (32, 24) for part in "qkv"}
        shapes |= {
            f"{layer}.0.SelfAttention.o.weight": (24, 32),
            f"{layer}.0.SelfAttention.relative_attention_bias.weight": (32, 4),
            f"{layer}.0.layer_norm.weight": (24,),
            f"{layer}.1.DenseReluDense.wi_0.weight": (40, 24),
            f"{layer}.1.DenseReluDense.wi_1.weight": (40, 24),
            f"{layer}.1.DenseReluDense.wo.weight": (24, 40),
            f"{layer}.1.layer_norm.weight": (24,),
        }
    return shapes


def _clip_state() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "vision_model.embeddings.class_embedding": (16,),
        "vision_model.embeddings.patch_embedding.weight": (16, 3, 14, 14),
        "vision_model.embeddings.position_embedding.weight": (5, 16),
    }
    linears = {f"self_attn.{part}_proj": (16, 16) for part in ("q", "k", "v", "out")}
    linears |= {"mlp.fc1": (48, 16), "mlp.fc2": (16, 48)}
    for layer in (f"vision_model.encoder.layers.{index}" for index in range(2)):
        for name, (rows, columns) in linears.items():
            shapes |= {f"{layer}.{name}.weight": (rows, columns), f"{layer}.{name}.bias": (rows,)}
        shapes |= {f"{layer}.{norm}.{part}": (16,) for norm in ("layer_norm1", "layer_norm2") for part in _PARTS}
    return shapes | {
        f"vision_model.{norm}.{part}": (16,) for norm in ("pre_layrnorm", "post_layernorm") for part in _PARTS
    }


_PARTS = ("weight", "bias")


def _random(shapes: dict[str, tuple[int, ...]]) -> State:
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def make_pipeline(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_pipeline(edit=None, **config)`: a pipeline folder with both encoders, after `edit(t5, clip)`.

    A keyword changes that key of whichever config.json has it. Tensors lie in two shards each.
    """

    def make(edit: Callable[[State, State], object] | None = None, **changes: Any) -> Path:
        root = tmp_path_factory.mktemp("pipeline")
        states = _random(_t5_state()), _random(_clip_state())
        if edit is not None:
            edit(*states)
        for folder, config, state in zip(
            ("text_encoder", "image_encoder"), (T5_CONFIG, CLIP_CONFIG), states, strict=True
        ):
            (root / folder).mkdir()
            own = {key: value for key, value in changes.items() if key in config}
            kept = {key: value for key, value in (config | own).items() if value is not None}
            (root / folder / "config.json").write_text(json.dumps(kept))
            names = sorted(state)
            for number, part in enumerate((names[::2], names[1::2]), 1):
                save_file({name: state[name] for name in part}, root / folder / f"model-0000{number}-of-2.safetensors")
        index = {
            "_class_name": "WanImageToVideoPipeline",
            "text_encoder": ["transformers", "UMT5EncoderModel"],
            "image_encoder": ["transformers", "CLIPVisionModel"],
        }
        (root / "model_index.json").write_text(json.dumps(index))
        return root

    return make


@pytest.fixture
def pipeline(make_pipeline: Callable[..., Path]) -> Path:
    """A pipeline folder with both encoders."""
    return make_pipeline()
