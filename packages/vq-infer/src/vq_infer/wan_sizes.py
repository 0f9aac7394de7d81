"""The published Wan models as far as memory is concerned, for a machine that has none of them yet."""

from typing import Any

from vq_core.artifacts.checkpoint import checkpoint_entries
from vq_core.families import family_named
from vq_core.sampling import Sampling
from vq_infer.memory import ModelMemory, transformer_bytes

# Weights, counted in modules of the published shapes.
UMT5_WEIGHTS = 5_680_910_336
VAE_WEIGHTS, SMALL_MODEL_VAE_WEIGHTS = 126_892_531, 704_688_668

COMMON = {
    "_class_name": "WanTransformer3DModel",
    "attention_head_dim": 128,
    "text_dim": 4096,
    "freq_dim": 256,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "eps": 1e-6,
    "patch_size": [1, 2, 2],
}
SHAPES: dict[str, dict[str, Any]] = {
    "14B": {"num_attention_heads": 40, "ffn_dim": 13824, "num_layers": 40},
    "1.3B": {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30},
    "5B": {"num_attention_heads": 24, "ffn_dim": 14336, "num_layers": 30},
}
IMAGE = {"in_channels": 36, "out_channels": 16, "image_dim": 1280, "added_kv_proj_dim": 5120}
TEXT = {"in_channels": 16, "out_channels": 16}
SMALL = {"in_channels": 48, "out_channels": 48}
SMALL_VAE = {"decoder_base_dim": 256, "is_residual": True, "patch_size": 2}


def wan_sizes(itemsize: int, *, fused: bool) -> dict[str, tuple[ModelMemory, Sampling]]:
    """Each model with 8-bit weights and the size of its usual video; `itemsize` and `fused` as in `ModelMemory`."""
    standard, wide = Sampling(), Sampling(height=720, width=1280)
    long = Sampling(height=704, width=1280, num_frames=121)
    image_to_video = _model(SHAPES["14B"] | IMAGE, 1, itemsize, fused)
    return {
        "Wan2.1 1.3B": (_model(SHAPES["1.3B"] | TEXT, 1, itemsize, fused), standard),
        "Wan2.1 14B": (image_to_video, standard),
        "Wan2.1 14B wide": (image_to_video, wide),
        "Wan2.2 A14B": (_model(SHAPES["14B"] | {"in_channels": 36, "out_channels": 16}, 2, itemsize, fused), standard),
        "Wan2.2 5B": (_model(SHAPES["5B"] | SMALL, 1, itemsize, fused, small=True), long),
    }


def _model(shape: dict[str, Any], experts: int, itemsize: int, fused: bool, *, small: bool = False) -> ModelMemory:
    family = family_named("wan")
    config = COMMON | shape
    topology = family.topology(config)
    weights = transformer_bytes(topology, checkpoint_entries(topology, family, gains=False), itemsize)
    return ModelMemory(
        config=config,
        vae_config=SMALL_VAE if small else {},
        transformers={f"expert {index}": weights for index in range(experts)},
        vae_weights=4 * (SMALL_MODEL_VAE_WEIGHTS if small else VAE_WEIGHTS),
        encoders=itemsize * UMT5_WEIGHTS,
        grid=(4, 32, 32) if small else (4, 16, 16),
        expand_timesteps=small,
        itemsize=itemsize,
        fused=fused,
    )
