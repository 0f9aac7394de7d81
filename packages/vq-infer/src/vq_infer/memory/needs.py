"""What a video needs of memory, told from headers and configurations before a weight is read.

Weights are counted from the checkpoint's table. What is alive while a block or the VAE computes grows with tokens and
pixels; its factors are the peaks of live tensors in the real modules, traced at Wan's sizes (docs/memory.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from vq_core.artifacts.checkpoint import CheckpointTensor, ConvertedCheckpoint, Role
from vq_core.files.json_file import read_json
from vq_core.files.tensor_file import read_header
from vq_core.sampling.pipeline_layout import PipelineLayout
from vq_core.sampling.settings import Sampling
from vq_core.topology import NON_BLOCK, Topology
from vq_infer.parallel.plan import UNSHARED, ParallelPlan

GIB = 2**30
# Alive at the worst moment of a block with one kernel between two products, in bytes per token. In self-attention: the
# stream, its codes, q, k and v as their product left them, q and k rotated, what comes out, and what attention itself
# takes: codes of all three in 8 bits, and more in cuDNN, for which the factor was measured. In the feed-forward: what
# came in, the stream, its codes; the product, and its codes.
ATTENTION_BYTES_PER_DIM = 22
FUSED_BYTES_PER_DIM, FUSED_BYTES_PER_FFN_DIM = 5, 3
# Where tokens are shared, in values per token and channel. Beside the exchange, as above: the stream, q, k and v, and
# q and k rotated. Ulysses has q, k and v side by side, as they are sent and as they are received. The ring has keys and
# values of all its processes, and sums outputs in fp32.
NEIGHBOURS, ULYSSES_VALUES = 6, 9
RING_VALUES, RING_BYTES_PER_DIM = 2, 16
# The same in plain torch: FFN's second linear quantizes its input, which is there in the model's dtype, in fp32,
# scaled, rounded and as codes; beside it the stream and its norm.
BYTES_PER_FFN_DIM = 17
ELEMENTS_PER_DIM = 5
# Where every token has its own timestep: its six modulations in the model's dtype, and in fp32 as a block adds to them.
MODULATIONS = 6
# Alive in the VAE's widest layers, in bytes per pixel of them and channel of its base: features of four frames and the
# two that every causal convolution keeps. Blocks with shortcuts hold more.
VAE_BYTES_PER_CHANNEL = 240
RESIDUAL_VAE_BYTES_PER_CHANNEL = 340
VAE_BYTES_PER_VALUE = 13  # of the finished frames, which are joined one after another
TILED_BYTES_PER_VALUE = 24
TILE_PIXELS = 256 * 256
# What libraries take for themselves when they are first used (cuBLAS, cuDNN, cuSOLVER in the scheduler, compiled
# kernels), and what the allocator cannot use.
MARGIN = GIB


@dataclass(frozen=True)
class TransformerBytes:
    """Weights of one transformer on the device: each block's, and what is in none."""

    blocks: tuple[int, ...]
    rest: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.rest + sum(self.blocks)


@dataclass(frozen=True)
class Needs:
    """Bytes that one video needs.

    Attributes:
        transformers: by component.
        activations: while a transformer computes.
        vae_weights: of the VAE, which stays.
        vae: while the VAE encodes or decodes the whole picture.
        vae_tiled: the same in tiles.
        encoders: of the largest encoder, which is gone before the rest is loaded.
    """

    transformers: Mapping[str, TransformerBytes]
    activations: int
    vae_weights: int
    vae: int
    vae_tiled: int
    encoders: int


@dataclass(frozen=True)
class ModelMemory:
    """Weights and shapes of a model, from which follows what a video needs.

    Attributes:
        config: of its transformers, diffusers' keys.
        vae_config: of its VAE.
        transformers: weights by component.
        vae_weights: bytes.
        encoders: bytes of the largest.
        grid: frames (k in k·n + 1), height and width, in pixels, of one token.
        expand_timesteps: every token has a timestep of its own.
        itemsize: of the runtime dtype: 2 on CUDA, 4 on the CPU.
        fused: there is one kernel between two products of a block, not plain torch.
    """

    config: Mapping[str, Any]
    vae_config: Mapping[str, Any]
    transformers: Mapping[str, TransformerBytes]
    vae_weights: int
    encoders: int
    grid: tuple[int, int, int]
    expand_timesteps: bool
    itemsize: int
    fused: bool

    def needs(self, sampling: Sampling, *, references: int = 0, parallel: ParallelPlan = UNSHARED) -> Needs:
        """For a video of the size of `sampling`; each of `references` images is one latent frame more.

        Of the processes of `parallel` each has its share of the tokens, but all weights; the first decodes the whole
        video.
        """
        frame_multiple, height_multiple, width_multiple = self.grid
        pixels = sampling.height * sampling.width
        latent_frames = (sampling.num_frames - 1) // frame_multiple + 1 + references
        tokens = latent_frames * (pixels // (height_multiple * width_multiple))
        values = sampling.num_frames * pixels
        return Needs(
            transformers=self.transformers,
            activations=self._activations(tokens, parallel),
            vae_weights=self.vae_weights,
            vae=self._vae_bytes(pixels) + VAE_BYTES_PER_VALUE * values,
            vae_tiled=self._vae_bytes(min(pixels, TILE_PIXELS)) + TILED_BYTES_PER_VALUE * values,
            encoders=self.encoders,
        )

    @property
    def _dim(self) -> int:
        return int(self.config["num_attention_heads"]) * int(self.config["attention_head_dim"])

    def _activations(self, tokens: int, parallel: ParallelPlan) -> int:
        if parallel.shares == 1:
            return tokens * self._bytes_per_token(0)
        # Every process embeds all tokens, and holds them until it is through the first block with its own. Cosines and
        # sines of all positions, in fp32, stay.
        stream, rope = tokens * self.itemsize * self._dim, tokens * 2 * 4 * int(self.config["attention_head_dim"])
        exchange = self._bytes_per_exchanged_token(parallel)
        return rope + stream + max(stream, parallel.share(tokens) * self._bytes_per_token(exchange))

    def _bytes_per_exchanged_token(self, parallel: ParallelPlan) -> int:
        values, others = NEIGHBOURS, 1
        if parallel.ulysses > 1:
            values += ULYSSES_VALUES
        if parallel.ring > 1:
            values += RING_VALUES * parallel.ring
            others += RING_BYTES_PER_DIM
        return (values * self.itemsize + others) * self._dim

    def _bytes_per_token(self, exchange: int) -> int:
        """At the worst moment of a block, where attention's exchange of shared tokens takes `exchange`."""
        config, dim = self.config, self._dim
        ffn_dim = int(config["ffn_dim"])
        vace_layers = config.get("vace_layers")
        if self.fused and not vace_layers:
            feed_forward = FUSED_BYTES_PER_DIM * dim + FUSED_BYTES_PER_FFN_DIM * ffn_dim
            in_block = max(ATTENTION_BYTES_PER_DIM * dim, feed_forward)
        else:
            in_block = ELEMENTS_PER_DIM * self.itemsize * dim + BYTES_PER_FFN_DIM * ffn_dim
        modulation = MODULATIONS * (self.itemsize + 4) * dim if self.expand_timesteps else 0
        # For VACE a hint for each of its layers, and the stream that makes them.
        hints = self.itemsize * (len(vace_layers) + 3) * dim if vace_layers else 0
        return max(in_block, exchange) + modulation + hints

    def _vae_bytes(self, pixels: int) -> int:
        config = self.vae_config
        channels = int(config.get("decoder_base_dim") or config.get("base_dim", 96))
        per_channel = RESIDUAL_VAE_BYTES_PER_CHANNEL if config.get("is_residual") else VAE_BYTES_PER_CHANNEL
        return pixels // int(config.get("patch_size") or 1) ** 2 * channels * per_channel


def read_memory(checkpoint: ConvertedCheckpoint, layout: PipelineLayout, *, itemsize: int, fused: bool) -> ModelMemory:
    """Of the transformers in `checkpoint` and of what surrounds them, from headers and configurations."""
    encoders = [itemsize * _elements(layout.path / "text_encoder")]
    if layout.has_image_encoder:
        encoders.append(4 * _elements(layout.path / "image_encoder"))
    return ModelMemory(
        config=next(iter(checkpoint.components.values())).config,
        vae_config=read_json(layout.path / "vae" / "config.json"),
        transformers={
            name: transformer_bytes(component.topology, component.entries, itemsize)
            for name, component in checkpoint.components.items()
        },
        vae_weights=4 * _elements(layout.path / "vae"),
        encoders=max(encoders),
        grid=(layout.frame_multiple, layout.height_multiple, layout.width_multiple),
        expand_timesteps=layout.expand_timesteps,
        itemsize=itemsize,
        fused=fused,
    )


def transformer_bytes(topology: Topology, entries: Mapping[str, CheckpointTensor], itemsize: int) -> TransformerBytes:
    """Weights on the device of the transformer that a checkpoint's `entries` make, its blocks as they run."""
    sizes = dict.fromkeys((*block_order(topology), NON_BLOCK), 0)
    for entry in entries.values():
        size = {Role.CODES: 1, Role.SCALE: 4, Role.GAIN: 4, Role.PLAIN: itemsize}[entry.role]
        sizes[entry.shard] += size * prod(entry.shape)
    rest = sizes.pop(NON_BLOCK)
    return TransformerBytes(tuple(sizes.values()), rest)


def block_order(topology: Topology) -> tuple[str, ...]:
    """The shards of a transformer that are blocks, in the order in which they run: VACE's come before the others."""
    return tuple(sorted(topology.block_shards, key=lambda shard: not shard.startswith("vace")))


def _elements(folder: Path) -> int:
    """Weights in the safetensors files of `folder`."""
    return sum(prod(info.shape) for path in folder.glob("*.safetensors") for info in read_header(path).values())
