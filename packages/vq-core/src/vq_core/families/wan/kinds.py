"""Which Wan a model is: told by its channels, image encoder, positions, VACE blocks and number of experts together.

One table has what is known of each published model that its own files may leave out, from its authors' code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vq_core.errors import VqError

HEIGHT_480P, WIDTH_480P = 480, 832


@dataclass(frozen=True)
class Kind:
    """A published Wan.

    Attributes:
        name: for messages.
        model_type: what a native config.json calls what it makes: t2v, i2v, flf2v, vace or ti2v.
        in_channels: latent channels that the transformer reads.
        out_channels: latent channels of the video.
        image_encoder: does it attend to CLIP's view of the image?
        experts: number of transformers.
        flow_shift: of the timesteps.
        flow_shift_480p: the same for videos of the area of 480 x 832 pixels, where it differs.
        boundary_ratio: sigma below which the low-noise expert takes over; None with one transformer.
        vae_stride: frames and pixels in one latent: frames, height, width.
    """

    name: str
    model_type: str
    in_channels: int
    out_channels: int
    image_encoder: bool
    experts: int
    flow_shift: float
    flow_shift_480p: float | None = None
    boundary_ratio: float | None = None
    vae_stride: tuple[int, int, int] = (4, 8, 8)

    def shift_for(self, height: int, width: int) -> float:
        """The authors' shift for videos of `height` x `width` pixels."""
        small = height * width <= HEIGHT_480P * WIDTH_480P
        return self.flow_shift_480p if small and self.flow_shift_480p is not None else self.flow_shift

    def __str__(self) -> str:
        encoder = "an image encoder" if self.image_encoder else "no image encoder"
        experts = "two experts" if self.experts == 2 else "one transformer"
        return f"{self.name} ({self.in_channels} to {self.out_channels} channels, {encoder}, {experts})"


KINDS = (
    Kind("Wan2.1 T2V", "t2v", 16, 16, False, 1, 5.0),
    Kind("Wan2.1 I2V", "i2v", 36, 16, True, 1, 5.0, flow_shift_480p=3.0),
    Kind("Wan2.1 FLF2V", "flf2v", 36, 16, True, 1, 16.0),
    Kind("Wan2.1 VACE", "vace", 16, 16, False, 1, 16.0),
    Kind("Wan2.2 T2V A14B", "t2v", 16, 16, False, 2, 12.0, boundary_ratio=0.875),
    Kind("Wan2.2 I2V A14B", "i2v", 36, 16, False, 2, 5.0, boundary_ratio=0.9),
    Kind("Wan2.2 VACE A14B", "vace", 16, 16, False, 2, 8.0, boundary_ratio=0.9),
    Kind("Wan2.2 TI2V 5B", "ti2v", 48, 48, False, 1, 5.0, vae_stride=(4, 16, 16)),
)


def is_vace(config: Mapping[str, Any]) -> bool:
    """Has the transformer a second stack of blocks, which steers the first by videos, masks and reference images?"""
    return config.get("vace_layers") is not None


def model_type(config: Mapping[str, Any]) -> str:
    """The `Kind.model_type` of the transformer that diffusers' `config` describes.

    Raises:
        VqError: no published Wan has such channels.
    """
    said = _said_type(config)
    channels = (config["in_channels"], config["out_channels"])
    if channels not in {(kind.in_channels, kind.out_channels) for kind in KINDS if kind.model_type == said}:
        raise _unknown([config], 1, "The transformer")
    return said


def find_kind(config: Mapping[str, Any], experts: int) -> Kind | None:
    """The published Wan with transformers as diffusers' `config` says, and so many of them."""
    shape = (config["in_channels"], config["out_channels"], config.get("image_dim") is not None, experts)
    for kind in KINDS:
        known = (kind.in_channels, kind.out_channels, kind.image_encoder, kind.experts)
        if kind.model_type == _said_type(config) and known == shape:
            return kind
    return None


def kind_of(configs: Sequence[Mapping[str, Any]], where: str, *, experts: int) -> Kind:
    """Which Wan the model `where` is, whose transformers diffusers' `configs` describe.

    Args:
        configs: of each transformer that is there.
        where: the model's name, for messages.
        experts: how many transformers the model is told to have; more than there are means that some were left out.

    Raises:
        VqError: it is one expert of a pair, its transformers differ, or no published Wan is like it.
    """
    pair = find_kind(configs[0], 2)
    kind = find_kind(configs[0], experts)
    if len(configs) == 1 and pair is not None and (kind is None or experts == 2):
        raise VqError(
            f"{where} is one expert of {pair}, and LightX2V runs both together: give the folder that holds both."
        )
    if len(configs) == 2 and _shape(configs[0]) != _shape(configs[1]):
        raise VqError(
            f"The two transformers of {where} differ, {_described(configs[0])} and {_described(configs[1])}: "
            "give two experts of one model."
        )
    if kind is None:
        raise _unknown(configs, experts, where)
    return kind


def _said_type(config: Mapping[str, Any]) -> str:
    if is_vace(config):
        return "vace"
    if config.get("pos_embed_seq_len") is not None:
        return "flf2v"  # first and last frame: their image tokens are told apart by position
    if config["in_channels"] == 2 * config["out_channels"] + 4:
        return "i2v"  # noise, a mask of 4 channels, the image's latent
    # The small Wan 2.2 model takes text or an image through the same channels, those of its own VAE.
    return "ti2v" if config["in_channels"] == 48 else "t2v"


def _shape(config: Mapping[str, Any]) -> tuple[object, ...]:
    """What both experts of a model have in common."""
    keys = ("in_channels", "out_channels", "image_dim", "num_layers", "num_attention_heads", "ffn_dim")
    return (_said_type(config), *(config.get(key) for key in keys))


def _described(config: Mapping[str, Any]) -> str:
    parts = [f"{config['in_channels']} to {config['out_channels']} channels"]
    parts.append("an image encoder" if config.get("image_dim") is not None else "no image encoder")
    if config.get("pos_embed_seq_len") is not None:
        parts.append("positions of two frames")
    if is_vace(config):
        parts.append("VACE blocks")
    return f"{', '.join(parts)}, {config.get('num_layers')} blocks"


def _unknown(configs: Sequence[Mapping[str, Any]], experts: int, where: str) -> VqError:
    number = "two transformers" if experts == 2 else "one transformer"
    return VqError(
        f"{where} is no Wan that is known here ({number}; {_described(configs[0])}): "
        f"known are {', '.join(map(str, KINDS))}."
    )
