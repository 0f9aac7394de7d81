"""Estimates against the live tensors of the real modules, and bytes against the checkpoint's files."""

import shutil
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.device_mesh import init_device_mesh
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.errors import VqError
from vq_core.files.tensor_file import read_header
from vq_core.numerics.quantize import Quantized
from vq_core.runtime.process import Process
from vq_core.sampling.pipeline_layout import read_layout
from vq_core.sampling.settings import Sampling
from vq_infer.eight_bit.operands import Operands
from vq_infer.fused.block import FusedBlock
from vq_infer.kernels import cpu
from vq_infer.kernels.quant_linear import QuantLinear
from vq_infer.memory.needs import ModelMemory, TransformerBytes, block_order, read_memory
from vq_infer.parallel.plan import ParallelPlan
from vq_infer.parallel.team import DIMENSIONS, Team, parallelize

Opened = Callable[..., ConvertedCheckpoint]


class Peak(TorchDispatchMode):
    """The most bytes that tensors made inside held at once; within `FakeTensorMode`, which computes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._seen.update(leaf.untyped_storage()._cdata for leaf in tree_leaves(args) if isinstance(leaf, Tensor))
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._seen:
                    self._seen.add(storage._cdata)
                    self.live += storage.nbytes()
                    self.peak = max(self.peak, self.live)
                    weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())
        return output

    def _gone(self, key: int, nbytes: int) -> None:
        self._seen.discard(key)
        self.live -= nbytes


def memory(itemsize: int = 4, *, expand_timesteps: bool = False, fused: bool = False, **config: Any) -> ModelMemory:
    shape = {"num_attention_heads": 2, "attention_head_dim": 64, "ffn_dim": 345} | config
    return ModelMemory(
        config=shape,
        vae_config={"base_dim": 8},
        transformers={"transformer": TransformerBytes((1, 1), 1)},
        vae_weights=1,
        encoders=1,
        grid=(4, 16, 16),
        expand_timesteps=expand_timesteps,
        itemsize=itemsize,
        fused=fused,
    )


PICTURE, TOKENS = Sampling(height=512, width=512, num_frames=1), 32 * 32


def peak_of_a_pass(model: Any, expand_timesteps: bool) -> int:
    """The most bytes that a pass for `PICTURE` holds, in torch's default dtype."""
    with torch.no_grad(), Peak() as seen:
        model(
            hidden_states=torch.randn(1, 16, 1, 64, 64),
            timestep=torch.zeros((1, TOKENS) if expand_timesteps else (1,)),
            encoder_hidden_states=torch.randn(1, 8, 16),
            return_dict=False,
        )
    return seen.peak


@pytest.mark.parametrize("expand_timesteps", [False, True])
def test_activations_cover_what_a_transformer_holds(expand_timesteps: bool) -> None:
    from diffusers import WanTransformer3DModel

    with FakeTensorMode():
        model: Any = WanTransformer3DModel(
            num_attention_heads=2, attention_head_dim=64, ffn_dim=345, num_layers=1, text_dim=16, freq_dim=32
        ).eval()  # fmt: skip
        linears = {name: layer for name, layer in model.blocks.named_modules() if isinstance(layer, nn.Linear)}
        for name, layer in linears.items():
            codes = Quantized(torch.zeros(layer.weight.shape, dtype=torch.int8), torch.ones(layer.out_features, 1))
            model.blocks.set_submodule(name, QuantLinear(codes, layer.bias.detach(), None, cpu))
        peak = peak_of_a_pass(model, expand_timesteps)
    estimate = memory(expand_timesteps=expand_timesteps).needs(PICTURE).activations
    assert 0.85 * peak < estimate < 2 * peak


class ResultsAlone:
    """Kernels, products and 8-bit attention as far as memory is concerned: each allocates its result and no more."""

    NAME, MULTIPLE, ERROR = "results alone", 1, 0.0

    def norm_quantize(self, x: Tensor, *others: Any, rotation: int = 1) -> tuple[Tensor, Quantized]:
        with_update = len(others) > 5
        return (torch.empty_like(x) if with_update else x), self.codes(x)

    def sum_quantize(self, x: Tensor, *_: Any) -> Quantized:
        return self.codes(x)

    gelu_quantize = sum_quantize

    def norm_rope(self, x: Tensor, weights: Tensor, eps: float, rope: Any, heads: int) -> tuple[Tensor, ...]:
        parts, dim = weights.shape
        return tuple(x.new_empty(parts, *x.shape[:2], heads, dim // heads))

    def gated_sum(self, x: Tensor, update: Tensor, gate: Tensor) -> Tensor:
        return torch.empty_like(x)

    def multiply(self, tokens: Quantized, weight: Quantized, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        return torch.empty(len(tokens.codes), len(weight.codes), dtype=dtype)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        operands = Operands.empty(q, k.shape[1])
        out = torch.empty_like(q)
        del operands  # alive until the output is
        return out

    @staticmethod
    def codes(x: Tensor) -> Quantized:
        return Quantized(torch.empty_like(x, dtype=torch.int8), torch.empty(*x.shape[:2], 1))


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def fused_model(ffn_dim: int) -> Any:
    """Two blocks of 16 heads of 64 channels."""
    from diffusers import WanTransformer3DModel

    model: Any = WanTransformer3DModel(
        num_attention_heads=16, attention_head_dim=64, ffn_dim=ffn_dim, num_layers=2, text_dim=16, freq_dim=32
    ).eval()  # fmt: skip
    for index, block in enumerate(model.blocks):
        for name, layer in list(block.named_modules()):
            if isinstance(layer, nn.Linear):
                codes = Quantized(torch.zeros(layer.weight.shape, dtype=torch.int8), torch.ones(layer.out_features, 1))
                quantized = QuantLinear(codes, layer.bias.detach(), None, ResultsAlone())
                block.set_submodule(name, quantized)
        model.blocks[index] = FusedBlock(block, ResultsAlone(), ResultsAlone(), ResultsAlone())
    return model


@pytest.mark.parametrize("expand_timesteps", [False, True])
@pytest.mark.parametrize("ffn_dim", [2760, 11040])
def test_activations_of_fused_blocks_cover_what_they_hold(expand_timesteps: bool, ffn_dim: int) -> None:
    with FakeTensorMode(), default_dtype(torch.bfloat16):
        peak = peak_of_a_pass(fused_model(ffn_dim), expand_timesteps)
    shape = memory(2, expand_timesteps=expand_timesteps, fused=True, num_attention_heads=16, ffn_dim=ffn_dim)
    estimate = shape.needs(PICTURE).activations
    assert 0.9 * peak < estimate < 1.4 * peak


@contextmanager
def first_of(plan: ParallelPlan) -> Iterator[Team]:
    """The first process of `plan`, whose messages nobody answers."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=plan.world, store=FakeStore())
    try:
        mesh = init_device_mesh("cpu", (1, plan.ring, plan.ulysses), mesh_dim_names=DIMENSIONS)
        yield Team(plan, Process(0, plan.world, 0, plan.world), torch.device("cpu"), mesh)
    finally:
        dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*_functional_collectives.*deprecated:FutureWarning")
@pytest.mark.parametrize(
    "plan",
    [ParallelPlan(ulysses=2), ParallelPlan(ulysses=8), ParallelPlan(ring=2)],
    ids=["ulysses 2", "ulysses 8", "ring 2"],  # of a longer ring, fake tensors count what is gathered twice
)
def test_activations_of_one_process_are_of_its_share_of_the_tokens(plan: ParallelPlan) -> None:
    fake = FakeTensorMode(allow_non_fake_inputs=True)
    with first_of(plan) as team, default_dtype(torch.bfloat16):
        with fake:
            model = fused_model(2760)
        parallelize(model, team, tokens=TOKENS, guided=False)
        with fake:
            peak = peak_of_a_pass(model, False)
    shape = memory(2, fused=True, num_attention_heads=16, ffn_dim=2760)
    estimate = shape.needs(PICTURE, parallel=plan).activations
    assert 0.9 * peak < estimate < 1.4 * peak


def test_of_shared_tokens_every_process_holds_its_part_and_all_weights() -> None:
    shape = memory(2, fused=True, num_attention_heads=16, ffn_dim=2760)
    alone, shared = shape.needs(PICTURE), shape.needs(PICTURE, parallel=ParallelPlan(ulysses=8))
    assert alone.activations == TOKENS * 22 * 1024
    # All tokens and their positions as they are embedded; of an eighth, what Ulysses exchanges.
    assert shared.activations == TOKENS * (2 * 1024 + 8 * 64) + TOKENS // 8 * 31 * 1024
    assert replace(shared, activations=alone.activations) == alone
    guidance = shape.needs(PICTURE, parallel=ParallelPlan(guidance=True))
    assert guidance == alone


@pytest.mark.parametrize("tiled", [False, True])
def test_the_vae_s_estimate_covers_what_it_holds(tiled: bool) -> None:
    from diffusers import AutoencoderKLWan

    sampling = Sampling(height=192, width=320, num_frames=5)
    needs = memory().needs(sampling)
    with FakeTensorMode():
        vae: Any = AutoencoderKLWan(base_dim=8, z_dim=16).eval()
        if tiled:
            vae.enable_tiling()
        with torch.no_grad(), Peak() as seen:
            frames = vae.decode(torch.randn(1, 16, 2, 24, 40)).sample
    assert frames.shape[-2:] == (192, 320)
    assert 0.9 * seen.peak < (needs.vae_tiled if tiled else needs.vae) < 1.8 * seen.peak


def test_weights_are_those_of_the_files(tiny_model: Callable[[str], Path], opened: Opened) -> None:
    model, checkpoint = tiny_model("i2v-2.2"), opened("i2v-2.2", smooth=True)
    found = read_memory(checkpoint, read_layout(model), itemsize=2, fused=True)
    assert list(found.transformers) == ["transformer", "transformer_2"]
    for name, component in checkpoint.components.items():
        folder = checkpoint.artifact.manifest.components[name].folder
        for shard, size in zip(block_order(component.topology), found.transformers[name].blocks, strict=True):
            header = read_header(checkpoint.artifact.path / folder / f"{shard}.safetensors")
            stored = sum(info.end - info.begin for info in header.values())
            assert 0.7 * stored < size < 1.1 * stored
    encoder = sum(
        (info.end - info.begin) // (4 if info.dtype == "F32" else 2)
        for file in (model / "text_encoder").glob("*.safetensors")
        for info in read_header(file).values()
    )
    assert found.encoders == 2 * encoder


def test_sizes_that_are_no_numbers_are_refused(
    tiny_model: Callable[[str], Path], opened: Opened, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(tiny_model("t2v"), tmp_path / "model"))
    shutil.copyfile(model / "transformer" / "config.json", model / "vae" / "config.json")
    with pytest.raises(VqError, match=r"`patch_size` in \S+vae/config.json is \[1, 2, 2\], and no number"):
        read_memory(opened("t2v", smooth=True), read_layout(model), itemsize=2, fused=True)


def test_vace_runs_its_own_blocks_first(opened: Opened) -> None:
    topology = opened("vace").components["transformer"].topology
    kinds = [shard.startswith("vace") for shard in block_order(topology)]
    assert kinds == sorted(kinds, reverse=True)
    assert any(kinds)


def test_reference_images_are_latent_frames() -> None:
    sampling = Sampling(height=64, width=64, num_frames=5)
    plain, more = (memory().needs(sampling, references=count).activations for count in (0, 2))
    assert more == 2 * plain
