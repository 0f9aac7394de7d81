"""The memory that a video needs, estimated from headers and configurations before a weight is read.

Weights are counted in the checkpoint's table. The memory of a computing block, or of the VAE, grows with tokens and
pixels; the factors are peaks of live tensors in the real modules, traced at Wan's sizes (docs/memory.md).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from vq_core.artifacts.checkpoint import CheckpointTensor, ConvertedCheckpoint, Role
from vq_core.errors import VqError
from vq_core.files.json_file import read_json
from vq_core.files.tensor_file import read_header
from vq_core.sampling.pipeline_layout import PipelineLayout
from vq_core.sampling.settings import Sampling
from vq_core.topology import NON_BLOCK, Topology
from vq_infer.parallel.plan import UNSHARED, ParallelPlan

GIB = 2**30
# Peak of a fused block, in bytes per token. In self-attention: the stream, its codes, q, k and v from their product, q
# and k rotated, the output, and attention's own memory: the codes of all three in 8 bits, more in cuDNN, for which the
# factor was measured. In the feed-forward: the input, the stream, its codes; the product, and its codes.
ATTENTION_BYTES_PER_DIM = 22
FUSED_BYTES_PER_DIM, FUSED_BYTES_PER_FFN_DIM = 5, 3
# Peak with shared tokens, in values per token and channel. Beside the exchange, as above: the stream, q, k and v, and q
# and k rotated. Ulysses has q, k and v side by side, sent, and received. The ring has keys and values of all its
# processes, and sums outputs in fp32.
NEIGHBOURS, ULYSSES_VALUES = 6, 9
RING_VALUES, RING_BYTES_PER_DIM = 2, 16
# Peak of a block in plain torch: the second linear of the feed-forward holds its input in the model's dtype, in fp32,
# scaled, rounded and as codes; beside it are the stream and its norm.
BYTES_PER_FFN_DIM = 17
ELEMENTS_PER_DIM = 5
# With a timestep for every token: six modulations in the model's dtype, and in fp32 with the block's table added.
MODULATIONS = 6
# Peak of the VAE's widest layers, in bytes per pixel and base channel: features of four frames, and the two frames that
# every causal convolution keeps. Blocks with shortcuts hold more.
VAE_BYTES_PER_CHANNEL = 240
RESIDUAL_VAE_BYTES_PER_CHANNEL = 340
VAE_BYTES_PER_VALUE = 13  # per value of the finished frames, which are joined one after another
TILED_BYTES_PER_VALUE = 24
TILE_PIXELS = 256 * 256
# Memory that libraries take at first use (cuBLAS, cuDNN, cuSOLVER in the scheduler, compiled kernels) and that the
# allocator cannot use.
MARGIN = GIB


# Of an element; the codebook is a kernel's own.
BYTES = {Role.CODES: 1, Role.SCALE: 4, Role.GROUP_SCALE: 1, Role.CODEBOOK: 0, Role.GAIN: 4, Role.MEAN: 4}


@dataclass(frozen=True)
class TransformerBytes:
    """Bytes of one transformer's weights on the device: of each block, and of the rest."""

    blocks: tuple[int, ...]
    rest: int

    @property
    def total(self) -> int:
        """Bytes of all weights."""
        return self.rest + sum(self.blocks)


@dataclass(frozen=True)
class Needs:
    """Bytes that one video needs.

    Attributes:
        transformers: weights by component.
        activations: of a computing transformer.
        vae_weights: of the VAE, which stays on the device.
        vae: of the VAE when it encodes or decodes the whole picture.
        vae_tiled: of the VAE when it works in tiles.
        encoders: of the largest encoder, which is removed before the rest is loaded.
    """

    transformers: Mapping[str, TransformerBytes]
    activations: int
    vae_weights: int
    vae: int
    vae_tiled: int
    encoders: int


@dataclass(frozen=True)
class ModelMemory:
    """Weights and shapes of a model, which give the needs of a video.

    Attributes:
        config: of its transformers, diffusers' keys.
        vae_config: of its VAE.
        transformers: weights by component.
        vae_weights: bytes of the VAE.
        encoders: bytes of the largest encoder.
        grid: frames (k in k·n + 1), height and width of one token, in pixels.
        expand_timesteps: whether every token has its own timestep.
        itemsize: bytes of the runtime dtype, 2 on CUDA and 4 on the CPU.
        fused: whether blocks run as fused kernels and not in plain torch.
        kept: whether some linears read their input in full precision, and no codes.
        decoded: bytes of the largest weight of 4 or 6 bits while it is multiplied.
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
    kept: bool = False
    decoded: int = 0

    def needs(self, sampling: Sampling, *, references: int = 0, parallel: ParallelPlan = UNSHARED) -> Needs:
        """The needs of one process for a video of the size of `sampling`; each reference image adds a latent frame.

        Each process of `parallel` has its share of the tokens and all weights; the first decodes the whole video.
        """
        frame_multiple, height_multiple, width_multiple = self.grid
        pixels = sampling.height * sampling.width
        latent_frames = (sampling.num_frames - 1) // frame_multiple + 1 + references
        tokens = latent_frames * (pixels // (height_multiple * width_multiple))
        values = sampling.num_frames * pixels
        return Needs(
            transformers=self.transformers,
            activations=self._activations(tokens, parallel) + self.decoded,
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
        # Every process embeds all tokens and holds them until its own have passed the first block. The cosines and
        # sines of all positions stay, in fp32.
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
        """Peak of a block, in which attention's exchange of shared tokens takes `exchange`."""
        config, dim = self.config, self._dim
        ffn_dim = int(config["ffn_dim"])
        vace_layers = config.get("vace_layers")
        if self.fused and not vace_layers:
            wider = self.itemsize - 1 if self.kept else 0  # than a code
            feed_forward = (FUSED_BYTES_PER_DIM + wider) * dim + (FUSED_BYTES_PER_FFN_DIM + wider) * ffn_dim
            in_block = max((ATTENTION_BYTES_PER_DIM + wider) * dim, feed_forward)
        else:
            in_block = ELEMENTS_PER_DIM * self.itemsize * dim + BYTES_PER_FFN_DIM * ffn_dim
        modulation = MODULATIONS * (self.itemsize + 4) * dim if self.expand_timesteps else 0
        # VACE keeps a hint for each of its layers, and the stream that makes them.
        hints = self.itemsize * (len(vace_layers) + 3) * dim if vace_layers else 0
        return max(in_block, exchange) + modulation + hints

    def _vae_bytes(self, pixels: int) -> int:
        config = self.vae_config
        channels = int(config.get("decoder_base_dim") or config.get("base_dim", 96))
        per_channel = RESIDUAL_VAE_BYTES_PER_CHANNEL if config.get("is_residual") else VAE_BYTES_PER_CHANNEL
        return pixels // int(config.get("patch_size") or 1) ** 2 * channels * per_channel


def read_memory(checkpoint: ConvertedCheckpoint, layout: PipelineLayout, *, itemsize: int, fused: bool) -> ModelMemory:
    """The memory of the transformers in `checkpoint` and the rest of the pipeline, from headers and configurations."""
    topologies = [component.topology for component in checkpoint.components.values()]
    encoders = [itemsize * _elements(layout.path / "text_encoder")]
    if layout.has_image_encoder:
        encoders.append(4 * _elements(layout.path / "image_encoder"))
    return ModelMemory(
        config=next(iter(checkpoint.components.values())).config,
        vae_config=_vae_config(layout.path / "vae" / "config.json"),
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
        kept=any(component.topology.kept for component in checkpoint.components.values()),
        decoded=max(map(_largest_input, topologies)) if any(it.grouped for it in checkpoint.schemes) else 0,
    )


def _vae_config(path: Path) -> dict[str, Any]:
    config = read_json(path, missing="get the whole pipeline")
    for key in ("decoder_base_dim", "base_dim", "patch_size"):
        if not isinstance(config.get(key), int | None):
            raise VqError(f"`{key}` in {path} is {config[key]!r:.80}, and no number: get the whole pipeline again.")
    return config


def transformer_bytes(topology: Topology, entries: Mapping[str, CheckpointTensor], itemsize: int) -> TransformerBytes:
    """Bytes on the device of the transformer with these `entries` in a checkpoint, its blocks in running order."""
    sizes = dict.fromkeys((*block_order(topology), NON_BLOCK), 0)
    for entry in entries.values():
        sizes[entry.shard] += {Role.PLAIN: itemsize, **BYTES}[entry.role] * prod(entry.shape)
    rest = sizes.pop(NON_BLOCK)
    return TransformerBytes(tuple(sizes.values()), rest)


def _largest_input(topology: Topology) -> int:
    """Weights of the linears of one block that read one input and are multiplied together, at most."""
    sizes: dict[tuple[str, str], int] = {}
    for linear in topology.linears:
        key = linear.shard, topology.group_of(linear.name).name
        sizes[key] = sizes.get(key, 0) + linear.in_features * linear.out_features
    return max(sizes.values())


def block_order(topology: Topology) -> tuple[str, ...]:
    """The shards of a transformer that are blocks, in running order: VACE's come before the others."""
    return tuple(sorted(topology.block_shards, key=lambda shard: not shard.startswith("vace")))


def _elements(folder: Path) -> int:
    """Number of weights in the safetensors files of `folder`."""
    return sum(prod(info.shape) for path in folder.glob("*.safetensors") for info in read_header(path).values())
