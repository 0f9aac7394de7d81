"""The measured work: a model's shape, a video's size, and one denoising step on random inputs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from vq_core.errors import VqError

TEXT_TOKENS = 512
IMAGE_TOKENS = 257
"""CLIP's 16x16 patches and its class token."""
GUIDANCE_SCALE = 5.0
TIME_STRIDE = 4
SEED = 42


@dataclass(frozen=True)
class Workload:
    """One transformer's shape and one video's size.

    Attributes:
        size: a key of `vq_infer.memory.model_sizes.MODEL_SIZES`, or the checkpoint that `config` is from.
        config: diffusers' config.json of the transformer, cut to `blocks` blocks.
        whole: blocks of the whole model.
        height, width: of the video, in pixels.
        num_frames: of the video.
    """

    size: str
    config: Mapping[str, Any] = field(repr=False)
    whole: int
    height: int
    width: int
    num_frames: int

    @property
    def blocks(self) -> int:
        """Blocks that are measured."""
        return int(self.config["num_layers"])

    @property
    def dim(self) -> int:
        """Width of the transformer."""
        return int(self.config["num_attention_heads"]) * int(self.config["attention_head_dim"])

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """Frames, height and width of the latent."""
        return (self.num_frames - 1) // TIME_STRIDE + 1, self.height // self._stride, self.width // self._stride

    @property
    def tokens(self) -> int:
        """Tokens of the video."""
        frames, height, width = self.latent_shape
        _, patch_height, patch_width = self.config["patch_size"]
        return frames * (height // patch_height) * (width // patch_width)

    @property
    def context_tokens(self) -> tuple[int, int]:
        """Text tokens and image tokens that the video's tokens attend to."""
        return TEXT_TOKENS, IMAGE_TOKENS if self.config["image_dim"] is not None else 0

    @property
    def _stride(self) -> int:
        return 16 if self.config["out_channels"] == 48 else 8  # Wan2.2's small model has a VAE of its own

    def check(self) -> None:
        """Check the size of the video.

        Raises:
            VqError: the model cannot make it.
        """
        multiple = 2 * self._stride
        for name, value in (("height", self.height), ("width", self.width)):
            if value < multiple or value % multiple:
                raise VqError(f"--{name} {value} is not a multiple of {multiple}: use {value // multiple * multiple}.")
        if self.num_frames % TIME_STRIDE != 1:
            raise VqError(f"--num-frames {self.num_frames} is not {TIME_STRIDE}k + 1: use 81.")


class Step:
    """One denoising step as diffusers' pipeline takes it: a pass with the prompt, one without, combined."""

    def __init__(self, workload: Workload, device: torch.device, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(SEED)

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator).to(device, dtype)

        config = workload.config
        text, image = workload.context_tokens
        self._latent = random(1, config["in_channels"], *workload.latent_shape)
        self._texts = {name: random(1, text, config["text_dim"]) for name in ("cond", "uncond")}
        self._image = random(1, image, config["image_dim"]) if image else None
        self._per_token = config["in_channels"] == 48
        self._tokens = workload.tokens
        self._device = device

    @torch.no_grad()
    def run(self, model: nn.Module, timestep: float) -> Tensor:
        """uncond + guidance · (cond − uncond), the prediction of the step `[1, channels, frames, height, width]`."""
        cond, uncond = (self.forward(model, branch, timestep) for branch in self._texts)
        return uncond + GUIDANCE_SCALE * (cond - uncond)

    @torch.no_grad()
    def forward(self, model: nn.Module, branch: str, timestep: float) -> Tensor:
        """One of the two passes."""
        shape = (1, self._tokens) if self._per_token else (1,)
        with cast(Any, model).cache_context(branch):
            output: Tensor = model(
                hidden_states=self._latent,
                timestep=torch.full(shape, timestep, device=self._device),
                encoder_hidden_states=self._texts[branch],
                encoder_hidden_states_image=self._image,
                return_dict=False,
            )[0]
        return output


def timesteps() -> Iterator[float]:
    """Timesteps without end, each unlike the one before, so that nothing that depends on them can be kept."""
    while True:
        yield from (float(1000 - 20 * index) for index in range(1, 50))
