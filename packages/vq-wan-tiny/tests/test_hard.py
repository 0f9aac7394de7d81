"""The hard twin is the same function on diffusers' own transformer; INT8 breaks it and smoothing repairs it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vq_core.families.wan import llmc_groups
from vq_core.model.source import SourceTransformer, open_source
from vq_core.numerics.bfloat16 import nearest_bf16
from vq_core.numerics.folding import fold_group
from vq_core.numerics.linear import w8a8_linear
from vq_core.numerics.quantize import quantize_weight, snr_db
from vq_core.numerics.scheme import NumberFormat
from vq_core.topology import Group, Topology
from vq_wan_tiny.hard import build_hard, harden, outlier_factors

SEED = 0
Tensors = dict[str, Tensor]
Hook = Callable[..., Tensor | None]


class Transformer:
    """Diffusers' transformer with the random model's weights, and inputs on which it is run."""

    def __init__(self, checkpoint: SourceTransformer) -> None:
        from diffusers import WanTransformer3DModel

        config = checkpoint.config
        self.topology = checkpoint.topology
        self.tensors: Tensors = checkpoint.plain(self.topology.tensors)
        self.model = WanTransformer3DModel(**{key: config[key] for key in config if not key.startswith("_")}).eval()
        torch.manual_seed(1)
        self.inputs = {
            "hidden_states": torch.randn(2, config["in_channels"], 2, 8, 8),
            "timestep": torch.tensor([900.0, 100.0]),
            "encoder_hidden_states": torch.randn(2, 512, config["text_dim"]),
            "encoder_hidden_states_image": torch.randn(2, 17, config["image_dim"]),
        }

    @torch.no_grad()
    def run(self, tensors: Tensors, dtype: torch.dtype = torch.float32, hooks: dict[str, Hook] | None = None) -> Tensor:
        """The output with `tensors`; `hooks` run after the linears that they are named for."""
        self.model.to(dtype).load_state_dict({name: tensors[name] for name in self.tensors})
        handles = [self.model.get_submodule(name).register_forward_hook(hook) for name, hook in (hooks or {}).items()]
        try:
            output: Tensor = self.model(
                **{name: tensor.to(dtype) for name, tensor in self.inputs.items()}, return_dict=False
            )[0]
            return output
        finally:
            for handle in handles:
                handle.remove()

    def relative_error(self, tensors: Tensors, dtype: torch.dtype) -> float:
        """Of the output with `tensors`, against that of the source."""
        reference = self.run(self.tensors, dtype)
        return float((self.run(tensors, dtype) - reference).abs().max() / reference.abs().max())

    def absmax(self, tensors: Tensors) -> dict[str, Tensor]:
        """By group, the absmax of each input channel `[in]`."""
        seen: dict[str, Tensor] = {}

        def look(group: str, module: nn.Module, args: tuple[Tensor], output: Tensor) -> None:
            seen[group] = args[0].flatten(0, -2).abs().amax(dim=0)

        self.run(tensors, hooks={group.reads[0]: partial(look, group.name) for group in self.topology.groups})
        return seen

    def int8_snr_db(self, tensors: Tensors, groups: tuple[Group, ...] = ()) -> float:
        """Of the output with all block linears in INT8, `groups` smoothed by SmoothQuant's formula with α = 1/2."""
        absmax = self.absmax(tensors)
        smoothed = tensors | {name: torch.ones(length) for name, length in self.topology.gains.items()}
        for group in groups:
            weight_absmax = torch.cat([tensors[f"{linear}.weight"] for linear in group.reads]).abs().amax(dim=0)
            fold_group(smoothed, group, nearest_bf16((weight_absmax.float() / absmax[group.name]).sqrt()))

        def quantized(linear: str, module: nn.Module, args: tuple[Tensor], output: Tensor) -> Tensor:
            weight = quantize_weight(smoothed[f"{linear}.weight"], NumberFormat.INT8)
            gain = smoothed.get(self.topology.gain_of(linear) or "")
            return w8a8_linear(args[0], weight, smoothed[f"{linear}.bias"], NumberFormat.INT8, gain)

        hooks: dict[str, Hook] = {linear.name: partial(quantized, linear.name) for linear in self.topology.linears}
        return snr_db(self.run(self.tensors), self.run(smoothed, hooks=hooks))


@pytest.fixture
def checkpoint(random_model: Path) -> SourceTransformer:
    return open_source(str(random_model)).components["transformer"]


@pytest.fixture
def transformer(checkpoint: SourceTransformer) -> Transformer:
    return Transformer(checkpoint)


@pytest.fixture
def fp64(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep diffusers' casts to fp32 from rounding: `.float()` gives fp64 here."""
    monkeypatch.setattr(Tensor, "float", Tensor.double)


@pytest.fixture
def random_fp64(transformer: Transformer) -> Transformer:
    """In fp64, with norms, biases and modulation for which a forgotten shift or bias shows."""
    torch.manual_seed(2)
    transformer.tensors = {
        name: tensor.double() + torch.randn(tensor.shape).double() / 2 * (tensor.ndim != 2)
        for name, tensor in transformer.tensors.items()
    }
    return transformer


def places(topology: Topology) -> dict[str, list[str]]:
    """The tensors of each place that takes factors, and of its readers where they differ from all others."""
    names = list(topology.tensors)
    return {
        "norm2": [name for name in names if ".norm2.weight" in name and name.startswith("blocks")],
        "self values": [name for name in names if ".attn1.to_v." in name],
        "text values": [name for name in names if ".attn2.to_v." in name],
        "image values": [name for name in names if ".attn2.add_v_proj." in name],
        "text": [name for name in names if ".text_embedder.linear_2." in name],
        "image": [name for name in names if ".image_embedder.norm2." in name],
        "time projection, weight": [name for name in names if name.endswith("time_proj.weight")],
        "time projection, bias": [name for name in names if name.endswith("time_proj.bias")],
        "tables": [name for name in names if name.startswith("blocks") and name.endswith("scale_shift_table")],
        "readers of norm3": [name for name in names if name.endswith("ffn.net.0.proj.weight")],
    }


@pytest.mark.usefixtures("fp64")
def test_it_is_the_same_function_in_fp64(random_fp64: Transformer) -> None:
    hard = harden(random_fp64.tensors, random_fp64.topology, SEED)
    assert random_fp64.relative_error(hard, torch.float64) < 1e-12


@pytest.mark.usefixtures("fp64")
def test_every_place_is_needed(random_fp64: Transformer) -> None:
    """With any of them left as it was, the output is another: the exactness above says something."""
    hard = harden(random_fp64.tensors, random_fp64.topology, SEED)
    for place, names in places(random_fp64.topology).items():
        forgotten = hard | {name: random_fp64.tensors[name] for name in names}
        assert names, place
        assert random_fp64.relative_error(forgotten, torch.float64) > 1e-3, place


def test_it_is_the_same_function_to_fp32_rounding_as_it_is_stored(transformer: Transformer) -> None:
    hard = harden(transformer.tensors, transformer.topology, SEED)
    assert transformer.relative_error(hard, torch.float32) < 1e-5


def test_every_weight_but_the_tables_is_the_source_s_times_a_power_of_two(transformer: Transformer) -> None:
    hard = harden(transformer.tensors, transformer.topology, SEED)
    assert hard.keys() == transformer.tensors.keys()
    changed = set()
    for name, tensor in transformer.tensors.items():
        assert (hard[name].dtype, hard[name].shape) == (tensor.dtype, tensor.shape), name
        if not torch.equal(hard[name], tensor):
            changed.add(name)
            if not name.endswith("scale_shift_table"):
                mantissas, expected = hard[name].float().frexp().mantissa, tensor.float().frexp().mantissa
                assert torch.equal(mantissas, expected), name
    assert "proj_out.weight" not in changed
    assert not any(name.endswith("ffn.net.2.weight") for name in changed)
    expected_changes = {name for names in places(transformer.topology).values() for name in names}
    assert {name for name in expected_changes if transformer.tensors[name].any()} <= changed


def test_tables_are_kept_in_fp32(transformer: Transformer) -> None:
    stored = {name: tensor.bfloat16() for name, tensor in transformer.tensors.items()}
    hard = harden(stored, transformer.topology, SEED)
    assert {name for name, tensor in hard.items() if tensor.dtype != torch.bfloat16} == {
        f"blocks.{block}.scale_shift_table" for block in range(transformer.topology.num_blocks)
    }


def test_every_place_that_has_a_fold_has_outlier_channels(transformer: Transformer) -> None:
    easy = transformer.absmax(transformer.tensors)
    hard = transformer.absmax(harden(transformer.tensors, transformer.topology, SEED))
    for group in transformer.topology.groups:
        if group.sink is None:
            assert torch.allclose(hard[group.name], easy[group.name], rtol=1e-4)
        else:
            assert hard[group.name].max() > 30 * hard[group.name].median(), group.name


def test_plain_int8_breaks_it_and_smoothing_repairs_it(transformer: Transformer) -> None:
    topology = transformer.topology
    hard = harden(transformer.tensors, topology, SEED)
    foldable = tuple(group for group in topology.groups if group.sink is not None)
    easy_rounded, easy_smoothed = (transformer.int8_snr_db(transformer.tensors, groups) for groups in ((), foldable))
    rounded, smoothed = (transformer.int8_snr_db(hard, groups) for groups in ((), foldable))
    assert easy_rounded > 25
    assert rounded < 10
    assert smoothed > easy_rounded - 3
    assert abs(smoothed - easy_smoothed) < 3
    assert transformer.int8_snr_db(hard, llmc_groups(topology)) < smoothed - 10


@pytest.mark.parametrize("channels", [48, 64, 256])
def test_factors_are_powers_of_two_with_a_few_massive_ones(channels: int) -> None:
    factors = outlier_factors("a place", channels, SEED)
    exponents = factors.log2()
    assert (factors.shape, factors.dtype) == ((channels,), torch.float64)
    assert torch.equal(exponents, exponents.round())
    assert int((factors >= 64).sum()) == 3
    assert factors.max() <= 256
    assert factors.median() == 1
    assert 0.5 < exponents[factors < 64].std() < 1.5


def test_factors_depend_on_place_and_seed_alone() -> None:
    factors = outlier_factors("a place", 64, SEED)
    torch.manual_seed(7)
    assert torch.equal(outlier_factors("a place", 64, SEED), factors)
    assert not torch.equal(outlier_factors("another place", 64, SEED), factors)
    assert not torch.equal(outlier_factors("a place", 64, SEED + 1), factors)


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_same_seed_gives_the_same_bytes_and_all_other_parts_are_copied(random_model: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        build_hard(random_model, tmp_path / name, seed)
    source, first, again, other = (content(folder) for folder in (random_model, *sorted(tmp_path.iterdir())))
    weights = {name for name in source if name.startswith("transformer/") and name.endswith(".safetensors")}
    assert len(weights) > 1
    assert first == again
    assert first.keys() == source.keys()
    assert {name for name in source if first[name] != source[name]} == weights
    assert {name for name in source if first[name] != other[name]} == weights


def test_the_written_model_is_the_hardened_one(
    random_model: Path, checkpoint: SourceTransformer, tmp_path: Path
) -> None:
    build_hard(random_model, tmp_path / "hard", SEED)
    written = open_source(str(tmp_path / "hard")).components["transformer"]
    expected = harden(checkpoint.plain(checkpoint.topology.tensors), checkpoint.topology, SEED)
    loaded = written.plain(written.topology.tensors)
    assert written.config == checkpoint.config
    assert written.fingerprint != checkpoint.fingerprint
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in expected.items())
