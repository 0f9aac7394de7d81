"""Memory of the published Wan models, for a machine that has none of them yet."""

from collections.abc import Mapping
from typing import Any

from vq_core.artifacts.checkpoint import checkpoint_tensors
from vq_core.families import family_named
from vq_core.sampling.settings import Sampling
from vq_infer.memory.model_sizes import MODEL_SIZES
from vq_infer.memory.needs import ModelMemory, transformer_bytes

# Number of weights, counted in modules of the published shapes.
UMT5_WEIGHTS = 5_680_910_336
VAE_WEIGHTS, SMALL_MODEL_VAE_WEIGHTS = 126_892_531, 704_688_668

SMALL_VAE = {"decoder_base_dim": 256, "is_residual": True, "patch_size": 2}


def wan_sizes(itemsize: int, *, fused: bool) -> dict[str, tuple[ModelMemory, Sampling]]:
    """Each model with 8-bit weights and the size of its usual video; `itemsize` and `fused` as in `ModelMemory`."""
    standard, wide = Sampling(), Sampling(height=720, width=1280)
    long = Sampling(height=704, width=1280, num_frames=121)
    image_to_video = _model(MODEL_SIZES["14b"], 1, itemsize, fused)
    return {
        "Wan2.1 1.3B": (_model(MODEL_SIZES["1.3b"], 1, itemsize, fused), standard),
        "Wan2.1 14B": (image_to_video, standard),
        "Wan2.1 14B wide": (image_to_video, wide),
        "Wan2.2 A14B": (_model(MODEL_SIZES["a14b"], 2, itemsize, fused), standard),
        "Wan2.2 5B": (_model(MODEL_SIZES["5b"], 1, itemsize, fused, small=True), long),
    }


def _model(config: Mapping[str, Any], experts: int, itemsize: int, fused: bool, *, small: bool = False) -> ModelMemory:
    family = family_named("wan")
    topology = family.topology(config)
    weights = transformer_bytes(topology, checkpoint_tensors(topology, family, gains=False), itemsize)
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
