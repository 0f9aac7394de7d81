import gc
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from torch import Tensor, nn

from vq_core.errors import VqError
from vq_core.model.lora_request import LoraRequest
from vq_core.model.source import open_source
from vq_core.sampling.pipeline import VideoPipeline
from vq_core.sampling.prompts import Sample
from vq_core.sampling.settings import Sampling
from vq_core.testing.tiny_models import FFN_DIM, INNER_DIM, VARIANTS, Variant

SAMPLING = Sampling(steps=2, height=64, width=64, num_frames=5)

TinyModel = Callable[[Variant], Path]


def without_weights(model: Path, folder: Path, part: str) -> Path:
    """A copy of `model` that would fail as soon as the weights of `part` are loaded ("" for all)."""
    copy = Path(shutil.copytree(model, folder / "model"))
    for path in (copy / part).rglob("*.safetensors"):
        path.unlink()
    return copy


@pytest.mark.parametrize("variant", VARIANTS)
def test_schedule_and_size_are_told_before_anything_is_loaded(
    tiny_model: TinyModel, samples: list[Sample], variant: Variant, tmp_path: Path
) -> None:
    sampling = replace(SAMPLING, steps=5, height=64, width=96)
    bare = VideoPipeline(str(without_weights(tiny_model(variant), tmp_path, "")), "cpu")
    schedule = bare.schedule(sampling)
    tokens = bare.video_tokens(samples[1], sampling)

    pipeline = VideoPipeline(str(tiny_model(variant)), "cpu")
    seen: list[tuple[str, float]] = []
    read: set[int] = set()
    for name, transformer in pipeline.transformers.items():
        transformer.register_forward_pre_hook(
            lambda module, args, kwargs, name=name: seen.append((name, kwargs["timestep"].max().item())),
            with_kwargs=True,
        )
        transformer.blocks[0].ffn.register_forward_pre_hook(lambda module, args: read.add(args[0].shape[1]))
    pipeline.denoise(pipeline.encode(samples, sampling)[1], sampling, 0)
    assert [(step.component, step.timestep) for step in schedule] == seen[::2] == seen[1::2]
    assert read == {tokens}


def test_the_seed_decides(tiny_model: TinyModel, samples: list[Sample]) -> None:
    pipeline = VideoPipeline(str(tiny_model("t2v")), "cpu")
    (conditions,) = pipeline.encode(samples[:1], SAMPLING)
    first, again, other = (pipeline.sample(conditions, SAMPLING, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_small_model_of_wan22_makes_videos_from_text_too(tiny_model: TinyModel, samples: list[Sample]) -> None:
    pipeline = VideoPipeline(str(tiny_model("ti2v-5b")), "cpu")
    (conditions,) = pipeline.encode([Sample(samples[0].prompt)], SAMPLING)
    calls = record_inputs(pipeline.transformers)
    pipeline.denoise(conditions, SAMPLING, 0)
    assert all((inputs["timestep"] > 0).all() for _, inputs in calls)
    (conditions,) = pipeline.encode(samples[:1], SAMPLING)
    pipeline.denoise(conditions, SAMPLING, 0)
    assert (calls[-1][1]["timestep"] == 0).any()  # the tokens of the given first frame are clean


def count_calls(module: nn.Module) -> list[None]:
    calls: list[None] = []
    module.register_forward_hook(lambda *_: calls.append(None))
    return calls


def test_the_run_s_scheduler_is_shown_before_the_first_step(tiny_model: TinyModel, samples: list[Sample]) -> None:
    pipeline = VideoPipeline(str(tiny_model("t2v")), "cpu")
    (conditions, *_) = pipeline.encode(samples, SAMPLING)
    events: list[object] = []
    pipeline.denoise(conditions, SAMPLING, 0, lambda: events.append("step"), events.append)
    scheduler, *steps = events
    assert type(scheduler).__name__ == "UniPCMultistepScheduler"
    assert steps == ["step"] * SAMPLING.steps


def test_without_guidance_the_negative_prompt_is_left_out(tiny_model: TinyModel, samples: list[Sample]) -> None:
    sampling = replace(SAMPLING, guidance_scale=1.0)
    pipeline = VideoPipeline(str(tiny_model("t2v")), "cpu")
    (conditions,) = pipeline.encode(samples[:1], sampling)
    assert conditions.negative_prompt_embeds is None
    calls = count_calls(pipeline.transformers["transformer"])
    pipeline.sample(conditions, sampling, seed=0)
    assert len(calls) == 2


def test_both_experts_take_their_part(tiny_model: TinyModel, samples: list[Sample]) -> None:
    sampling = replace(SAMPLING, steps=4)
    pipeline = VideoPipeline(str(tiny_model("i2v-2.2")), "cpu")
    (conditions,) = pipeline.encode(samples[:1], sampling)
    calls = {name: count_calls(module) for name, module in pipeline.transformers.items()}
    pipeline.sample(conditions, sampling, seed=0)
    # Shift 3 turns the noise levels 1, 3/4, 1/2, 1/4 into 1, 0.9, 0.75, 0.5, and the experts part at 0.9.
    assert {name: len(seen) // 2 for name, seen in calls.items()} == {"transformer": 2, "transformer_2": 2}


def record_inputs(transformers: dict[str, nn.Module]) -> list[tuple[str, dict[str, Tensor]]]:
    """Name and tensors of every call of a transformer, from now on."""
    calls: list[tuple[str, dict[str, Tensor]]] = []

    def recorder(name: str) -> Callable[[nn.Module, tuple[Any, ...], dict[str, Any]], None]:
        def record(module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
            assert args == ()
            calls.append((name, {key: value.clone() for key, value in inputs.items() if isinstance(value, Tensor)}))

        return record

    for name, transformer in transformers.items():
        transformer.register_forward_pre_hook(recorder(name), with_kwargs=True)
    return calls


@pytest.mark.parametrize("variant", VARIANTS)
def test_denoise_calls_the_transformers_as_sample_does_and_decodes_nothing(
    tiny_model: TinyModel, samples: list[Sample], variant: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = replace(SAMPLING, steps=4)
    pipeline = VideoPipeline(str(tiny_model(variant)), "cpu")
    (conditions,) = pipeline.encode(samples[:1], sampling)
    calls = record_inputs(pipeline.transformers)
    steps: list[str] = []
    decoded: list[str] = []
    decode = AutoencoderKLWan.decode

    def watched(self: AutoencoderKLWan, z: Tensor, return_dict: bool = True) -> Any:
        decoded.append("video")
        return decode(self, z, return_dict=return_dict)

    monkeypatch.setattr(AutoencoderKLWan, "decode", watched)
    pipeline.sample(conditions, sampling, seed=3, on_step=lambda: steps.append("step"))
    assert decoded == ["video"]
    assert steps == ["step"] * 4
    sampled = calls.copy()
    calls.clear()
    steps.clear()
    pipeline.denoise(conditions, sampling, seed=3, on_step=lambda: steps.append("step"))
    assert decoded == ["video"]
    assert steps == ["step"] * 4
    assert len(calls) == len(sampled) == 4 * 2
    for (name, ours), (expected_name, expected) in zip(calls, sampled, strict=True):
        assert name == expected_name
        assert ours.keys() == expected.keys() >= {"hidden_states", "timestep", "encoder_hidden_states"}
        assert all(torch.equal(tensor, expected[key]) for key, tensor in ours.items())


def test_bfloat16_keeps_norms_and_tables_in_float32(tiny_model: TinyModel, samples: list[Sample]) -> None:
    pipeline = VideoPipeline(str(tiny_model("i2v")), "cpu", dtype=torch.bfloat16)
    dtypes = {name: parameter.dtype for name, parameter in pipeline.transformers["transformer"].named_parameters()}
    assert dtypes["blocks.0.attn1.to_q.weight"] == dtypes["proj_out.weight"] == torch.bfloat16
    for name in (
        "blocks.0.norm2.weight",
        "blocks.0.scale_shift_table",
        "scale_shift_table",
        "condition_embedder.time_embedder.linear_1.weight",
        "condition_embedder.image_embedder.norm2.weight",
    ):
        assert dtypes[name] == torch.float32, name
    (conditions,) = pipeline.encode(samples[:1], SAMPLING)
    assert conditions.prompt_embeds.dtype == torch.bfloat16
    assert conditions.image_embeds is not None
    assert conditions.image_embeds.dtype == torch.float32
    assert pipeline.sample(conditions, SAMPLING, seed=0).std() > 30


def test_replaced_transformers_are_used_and_the_own_ones_never_read(
    tiny_model: TinyModel, samples: list[Sample], tmp_path: Path
) -> None:
    own = VideoPipeline(str(tiny_model("i2v")), "cpu")
    conditions = own.encode(samples[:1], SAMPLING)[0]
    hollow = without_weights(tiny_model("i2v"), tmp_path, "transformer")
    pipeline = VideoPipeline(str(hollow), "cpu", lambda name: own.transformers[name])
    assert pipeline.transformers["transformer"] is own.transformers["transformer"]
    assert np.array_equal(pipeline.sample(conditions, SAMPLING, 0), own.sample(conditions, SAMPLING, 0))


def test_a_hub_model_is_fetched_without_transformers_that_are_replaced(
    tiny_model: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    skipped: list[list[str] | None] = []

    def snapshot_download(
        repo: str, allow_patterns: list[str] | None = None, ignore_patterns: list[str] | None = None
    ) -> str:
        skipped.append(ignore_patterns)
        return str(tiny_model("t2v"))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    VideoPipeline("Wan-AI/Wan2.1-Example", "cpu")
    VideoPipeline("Wan-AI/Wan2.1-Example", "cpu", lambda name: nn.Identity())
    assert skipped == [None, ["transformer*/*.safetensors*"]]


def test_encoders_are_gone_after_encoding(tiny_model: TinyModel, samples: list[Sample]) -> None:
    pipeline = VideoPipeline(str(tiny_model("i2v")), "cpu")
    pipeline.encode(samples, SAMPLING)
    alive = {type(thing).__name__ for thing in gc.get_objects()}
    assert not alive & {"UMT5EncoderModel", "CLIPVisionModel", "WanTransformer3DModel", "AutoencoderKLWan"}


@pytest.mark.parametrize(
    ("variant", "change", "sentence"),
    [
        ("t2v", {"height": 100}, "height 100 is not a multiple of 16: use 96 or 112"),
        ("i2v", {"height": 100}, "height 100 is not a multiple of 16: use 96 or 112"),
        ("t2v", {"width": 8}, "width 8 is not a multiple of 16: use 16"),
        ("ti2v-5b", {"height": 48}, "height 48 is not a multiple of 32: use 32 or 64"),
        ("t2v", {"num_frames": 80}, r"num_frames 80 is not 4k \+ 1: use 77 or 81"),
        ("i2v", {"guidance_scale_2": 3.0}, "guidance_scale_2 is for models with two transformers"),
    ],
)
def test_refuses_settings_before_loading(
    tiny_model: TinyModel,
    samples: list[Sample],
    tmp_path: Path,
    variant: Variant,
    change: dict[str, Any],
    sentence: str,
) -> None:
    pipeline = VideoPipeline(str(without_weights(tiny_model(variant), tmp_path, "")), "cpu")
    with pytest.raises(VqError, match=sentence):
        pipeline.encode(samples, replace(SAMPLING, **change))


def test_refuses_a_prompt_without_image_before_loading(tiny_model: TinyModel, tmp_path: Path) -> None:
    pipeline = VideoPipeline(str(without_weights(tiny_model("i2v"), tmp_path, "")), "cpu")
    with pytest.raises(VqError, match="The prompt 'a kite' for .* has no `image`, and the model starts from an image"):
        pipeline.encode([Sample("a kite")], SAMPLING)


def test_refuses_another_model_and_another_device(tiny_model: TinyModel, tmp_path: Path) -> None:
    with pytest.raises(VqError, match="is neither a folder nor a hub id"):
        VideoPipeline(str(tmp_path / "nowhere"), "cpu")
    with pytest.raises(VqError, match=r"model_index\.json is missing"):
        VideoPipeline(str(tmp_path), "cpu")
    with pytest.raises(VqError, match="`tpu` is not a supported device"):
        VideoPipeline(str(tiny_model("t2v")), "tpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merged_transformers_hold_what_the_source_reads(
    tiny_model: TinyModel, tmp_path: Path, dtype: torch.dtype
) -> None:
    stem = "diffusion_model.blocks.0"
    tensors = {
        f"{stem}.ffn.0.lora_down.weight": torch.randn(4, INNER_DIM),
        f"{stem}.ffn.0.lora_up.weight": torch.randn(FFN_DIM, 4),
        f"{stem}.norm3.diff": torch.randn(INNER_DIM),
        f"{stem}.diff_m": torch.randn(1, 6, INNER_DIM),
    }
    save_file(tensors, tmp_path / "lora.safetensors")
    model = str(tiny_model("i2v-2.2"))
    request = LoraRequest(tmp_path / "lora.safetensors", 0.7, "transformer_2")
    source = open_source(model, [request])
    pipeline = VideoPipeline(model, "cpu", dtype=dtype, source=source)
    plain = VideoPipeline(model, "cpu", dtype=dtype)
    for component, checkpoint in source.components.items():
        expected = checkpoint.plain(checkpoint.topology.tensors)
        changed = set()
        for name, parameter in pipeline.transformers[component].named_parameters():
            assert torch.equal(parameter, expected[name].to(parameter.dtype)), name
            if not torch.equal(parameter, plain.transformers[component].get_parameter(name)):
                changed.add(name)
        assert changed == set(checkpoint.merged)
    assert len(source.components["transformer_2"].merged) == 3
    assert source.components["transformer"].merged == ()


@pytest.mark.gpu
@pytest.mark.parametrize("variant", VARIANTS)
def test_cuda_makes_the_same_video(tiny_model: TinyModel, samples: list[Sample], variant: Variant) -> None:
    host = VideoPipeline(str(tiny_model(variant)), "cpu")
    device = VideoPipeline(str(tiny_model(variant)), "cuda", dtype=torch.float32)
    conditions = host.encode(samples[:1], SAMPLING)[0]
    assert {p.device.type for m in device.transformers.values() for p in m.parameters()} == {"cuda"}
    difference = host.sample(conditions, SAMPLING, 0).astype(int) - device.sample(conditions, SAMPLING, 0)
    assert np.abs(difference).mean() < 2
