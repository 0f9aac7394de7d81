"""One diffusers pipeline of the Wan family, its parts loaded, used and released in turn.

A 14B model with its text encoder does not fit beside its own activations, so the encoders run first, over all
samples, and are gone before the transformers are loaded, straight onto the device.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vq_core.errors import VqError
from vq_core.files.json_file import read_json
from vq_core.model.source import TRANSFORMER_WEIGHTS, Source, SourceTransformer, resolve_model
from vq_core.runtime.device import resolve_device, runtime_dtype
from vq_core.runtime.silence_libraries import silenced_libraries
from vq_core.sampling.condition_encoding import TEXT_TOKENS, encode_images, encode_texts
from vq_core.sampling.finite_results import FiniteResults
from vq_core.sampling.frames import Frames, open_frames, size_of_frames
from vq_core.sampling.guidance import scales_of
from vq_core.sampling.one_on_device import LazyTransformer, OneOnDevice
from vq_core.sampling.pipeline_layout import IMAGE_TO_VIDEO, VACE, PipelineLayout, read_layout
from vq_core.sampling.pretrained import load_model, load_scheduler, load_vae, require_fitting, require_loadable
from vq_core.sampling.prompts import ModelInputs, Sample
from vq_core.sampling.schedule import ScheduledStep, schedule_of
from vq_core.sampling.settings import Sampling

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conditions:
    """What one video is sampled from, encoded; tensors are on the host.

    Attributes:
        prompt_embeds: [1, 512, text_dim].
        negative_prompt_embeds: [1, 512, text_dim]; None without classifier-free guidance.
        image_embeds: of the first frame, or of the first and the last: [1 or 2, image tokens, image_dim]; None for
            models without an image encoder.
        sample: whose opened files are brought to the video's size when it is made.
    """

    prompt_embeds: Tensor
    negative_prompt_embeds: Tensor | None
    image_embeds: Tensor | None
    sample: Sample


class VideoPipeline:
    """A Wan pipeline in diffusers layout, whatever it makes videos from: first `encode`, then `sample`."""

    def __init__(
        self,
        model: str,
        device: str | None = None,
        load_transformer: Callable[[str], nn.Module] | None = None,
        dtype: torch.dtype | None = None,
        source: Source | None = None,
        *,
        in_turns: bool = False,
        vae_tiling: bool = False,
    ) -> None:
        """Open `model`; nothing is loaded yet.

        Args:
            model: diffusers pipeline folder or hub id.
            device: see `vq_core.runtime.device.resolve_device`.
            load_transformer: gives the transformer of a component (`transformer`, `transformer_2`), on the device, when
                it is first needed; without it the model's own are loaded, whose weights need not be there otherwise.
            dtype: of transformers and text encoder; bfloat16 on CUDA and float32 on the CPU unless given. The image
                encoder and the VAE are always float32, as in Wan's reference.
            source: `model` opened with LoRAs; its merged weights go into the model's own transformers.
            in_turns: keep one transformer on the device at a time, loaded when its first step comes, and none while
                the video is decoded. What `transformers` gives then only stands for them.
            vae_tiling: decode the video in tiles of 256 x 256 pixels that overlap: less memory, and other last bits.

        Raises:
            VqError: `model` is not a whole Wan pipeline, or the device is not there.
        """
        if source is not None and source.has_gains:
            raise VqError(
                f"{model} brings gains of its norms (LLMC's affine_norm), which diffusers does not apply: "
                "give the model that was smoothed, or write it anew with `vq-export diffusers --model`."
            )
        self.device = resolve_device(device)
        self.dtype = dtype or runtime_dtype(self.device)
        self.path = resolve_model(model, without=TRANSFORMER_WEIGHTS if load_transformer else None)
        self._layout = read_layout(self.path)
        self._load_transformer = load_transformer or self._load_own_transformer
        self._source = source
        self._one_on_device = OneOnDevice(self._load_transformer) if in_turns else None
        self._vae_tiling = vae_tiling

    @property
    def inputs(self) -> ModelInputs:
        """The files that the model makes videos from, besides text."""
        return self._layout.inputs

    @cached_property
    def transformers(self) -> dict[str, nn.Module]:
        """`transformer` and, for Wan2.2, `transformer_2` (the low-noise expert), on the device; loaded on first use."""
        if self._one_on_device is not None:
            return self._in_turn(self._one_on_device)
        return {name: self._load_transformer(name) for name in self._layout.transformers}

    def check(self, sampling: Sampling) -> None:
        """Refuse settings that the model cannot run, see `check_sampling`."""
        check_sampling(self._layout, sampling)

    def schedule(self, sampling: Sampling) -> list[ScheduledStep]:
        """Every step of a video in order, see `schedule_of`; no weights are loaded."""
        return schedule_of(self._scheduler, sampling.steps, self._layout.transformers, self._layout.boundary_ratio)

    def video_tokens(self, sample: Sample, sampling: Sampling) -> int:
        """Tokens of the video that `sample` makes in the transformer: its latent patches, and reference images'.

        Raises:
            VqError: a file that the model needs is missing, or cannot be decoded.
        """
        layout, (height, width) = self._layout, self._size(sample, sampling)
        references = len(sample.reference_images) if "reference_images" in layout.inputs else 0
        latent_frames = (sampling.num_frames - 1) // layout.frame_multiple + 1 + references
        return latent_frames * (height // layout.height_multiple) * (width // layout.width_multiple)

    def encode(self, samples: Sequence[Sample], sampling: Sampling) -> list[Conditions]:
        """Encode all samples, one encoder at a time; each is released before the next part is loaded.

        Raises:
            VqError: the settings or an image do not fit the model, or an encoder gives NaN or infinity.
        """
        self.check(sampling)
        for sample in samples:
            self._size(sample, sampling)
        require_loadable(self.path)
        self.schedule(sampling)
        _log.debug("Encoding %d prompts", len(samples))
        texts = encode_texts(self.path, samples, guided=sampling.guided, device=self.device, dtype=self.dtype)
        embeds: Sequence[Tensor | None] = [None] * len(samples)
        if self._layout.has_image_encoder:
            ends = (self._frames(sample, sampling).ends for sample in samples)
            embeds = encode_images(self.path, samples, ends, device=self.device)
        return [
            Conditions(positive, negative, image_embeds, sample)
            for (positive, negative), image_embeds, sample in zip(texts, embeds, samples, strict=True)
        ]

    def sample(
        self,
        conditions: Conditions,
        sampling: Sampling,
        seed: int,
        on_step: Callable[[], None] | None = None,
        on_scheduler: Callable[[Any], None] | None = None,
    ) -> NDArray[np.uint8]:
        """Sample one video, uint8 RGB [frames, height, width, 3]; `on_step` is called after every denoising step.

        The noise is drawn on the host, so that every device starts from the same. `on_scheduler` is given this run's
        scheduler, diffusers' own, before the first step.

        Raises:
            VqError: the settings do not fit the model, or see `FiniteResults.watched`.
        """
        video = self._run(conditions, sampling, seed, on_step, on_scheduler, "np")
        return np.rint(video * 255).astype(np.uint8)

    def denoise(
        self,
        conditions: Conditions,
        sampling: Sampling,
        seed: int,
        on_step: Callable[[], None] | None = None,
        on_scheduler: Callable[[Any], None] | None = None,
    ) -> None:
        """Run the transformers as `sample` does, for those who watch them; the result is not decoded to a video."""
        self._run(conditions, sampling, seed, on_step, on_scheduler, "latent")

    def _run(
        self,
        conditions: Conditions,
        sampling: Sampling,
        seed: int,
        on_step: Callable[[], None] | None,
        on_scheduler: Callable[[Any], None] | None,
        output_type: str,
    ) -> Any:
        self.check(sampling)
        results = FiniteResults(self.path, conditions.sample, [it.component for it in self.schedule(sampling)])

        def end_of_step(pipeline: Any, step: int, timestep: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            if on_step is not None:
                on_step()
            results.end_step(tensors["latents"])
            if self._one_on_device is not None and step == pipeline.num_timesteps - 1:
                self._one_on_device.release()  # the VAE needs the room
            return {}

        frames = self._frames(conditions.sample, sampling)
        settings: dict[str, Any] = {
            "prompt_embeds": self._placed(conditions.prompt_embeds),
            "negative_prompt_embeds": self._placed(conditions.negative_prompt_embeds),
            "height": frames.height,
            "width": frames.width,
            "num_frames": sampling.num_frames,
            "num_inference_steps": sampling.steps,
            "guidance_scale": sampling.guidance_scale,
            "guidance_scale_2": sampling.guidance_scale_2,
            "generator": torch.Generator("cpu").manual_seed(seed),
            "callback_on_step_end": end_of_step,
            "max_sequence_length": TEXT_TOKENS,
            "output_type": output_type,
        }
        if frames.image is not None:
            settings |= {"image": frames.image, "last_image": frames.last_image}
        if self._layout.pipeline_class == VACE:
            settings |= {
                "video": list(frames.video) or None,
                "mask": list(frames.mask) or None,
                "reference_images": list(frames.reference_images) or None,
            }
        pipeline = self._assembled(from_image=frames.image is not None)
        if on_scheduler is not None:
            on_scheduler(pipeline.scheduler)
        if self._layout.has_image_encoder:
            # The call takes images or their embedding but works on both, and the encoder is gone: answer for it.
            embeds = self._placed(conditions.image_embeds)
            pipeline.encode_image = lambda image, device: embeds
        with results.watched(pipeline):
            return pipeline(**settings).frames[0]

    def _size(self, sample: Sample, sampling: Sampling) -> tuple[int, int]:
        """Height and width of the video of `sample`; refuses what cannot be made."""
        sample.require(self._layout.inputs, f"The prompt {sample.prompt!r} for {self.path}")
        return size_of_frames(sample, self._layout.inputs, sampling, self._layout.side_multiple)

    def _frames(self, sample: Sample, sampling: Sampling) -> Frames:
        return open_frames(sample, self._layout.inputs, sampling, self._layout.side_multiple)

    def _placed(self, tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(self.device)

    def _load_own_transformer(self, name: str) -> nn.Module:
        _log.debug("Loading %s", self.path / name)
        with silenced_libraries():
            import diffusers

            transformer_class = getattr(diffusers, read_json(self.path / name / "config.json")["_class_name"])
        if self._source is None:
            require_fitting(transformer_class, self.path / name)
        # With a device map every shard goes from its file to the device; norms and tables stay in float32.
        device_map = {"": torch.device(self.device)}
        model = load_model(transformer_class, self.path / name, torch_dtype=self.dtype, device_map=device_map)
        if self._source is not None:
            load_merged(model, self._source.components[name])
        return model

    def _assembled(self, *, from_image: bool) -> Any:
        """The diffusers pipeline without its encoders; Wan2.2's small model has one class more for images."""
        layout = self._layout
        pipeline_class = IMAGE_TO_VIDEO if from_image else layout.pipeline_class
        transformers = self.transformers
        parts = {"transformer_2": transformers.get("transformer_2"), "boundary_ratio": layout.boundary_ratio}
        if pipeline_class != VACE:
            parts["expand_timesteps"] = layout.expand_timesteps
        with silenced_libraries():
            import diffusers

            pipeline = getattr(diffusers, pipeline_class)(
                tokenizer=None,
                text_encoder=None,
                vae=self._vae,
                scheduler=type(self._scheduler).from_config(self._scheduler.config),
                transformer=transformers["transformer"],
                **parts,
            )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def _in_turn(self, one_on_device: OneOnDevice) -> dict[str, nn.Module]:
        with silenced_libraries():
            import diffusers
            from accelerate import init_empty_weights

            standing: dict[str, nn.Module] = {}
            for name in self._layout.transformers:
                config = read_json(self.path / name / "config.json")
                with init_empty_weights():
                    model = getattr(diffusers, config["_class_name"]).from_config(config)
                standing[name] = LazyTransformer(
                    one_on_device, name, model.config, self.dtype, torch.device(self.device)
                )
        return standing

    @cached_property
    def _vae(self) -> Any:
        return load_vae(self.path, self.device, tiling=self._vae_tiling)

    @cached_property
    def _scheduler(self) -> Any:
        """It only tells the schedule: every video has one of its own, of the same configuration."""
        return load_scheduler(self.path, self._layout.scheduler_class)


def check_sampling(layout: PipelineLayout, sampling: Sampling) -> None:
    """Refuse settings that the model of `layout` cannot run.

    Raises:
        VqError: height, width, frames or the second guidance scale do not fit.
    """
    for name, value, multiple in (
        ("height", sampling.height, layout.height_multiple),
        ("width", sampling.width, layout.width_multiple),
    ):
        if value % multiple:
            raise VqError(f"{name} {value} is not a multiple of {multiple}: use {_around(value, multiple, 0)}.")
    frames, multiple = sampling.num_frames, layout.frame_multiple
    if frames % multiple != 1:
        raise VqError(f"num_frames {frames} is not {multiple}k + 1: use {_around(frames, multiple, 1)}.")
    transformers = len(layout.transformers)
    scales_of(sampling.guidance_scale, sampling.guidance_scale_2, transformers=transformers, where=layout.path)


@torch.no_grad()
def load_merged(transformer: nn.Module, checkpoint: SourceTransformer) -> None:
    """Put the weights that LoRAs change into `transformer`, one after another, each rounded to its parameter's dtype.

    They are rounded to the checkpoint's dtype first, so the model that runs is the one that other stages read.
    """
    for name in checkpoint.merged:
        transformer.get_parameter(name).copy_(checkpoint.plain([name])[name])


def _around(value: int, multiple: int, offset: int) -> str:
    """The sizes k * multiple + offset on both sides of `value`, as a proposal."""
    below = (value - offset) // multiple * multiple + offset
    return f"{below} or {below + multiple}" if below > 0 else f"{multiple + offset}"
