"""What a diffusers pipeline folder of the Wan family says of itself, before any weight is read."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vq_core.errors import VqError
from vq_core.families import family_of
from vq_core.files.given_file import MAX_BYTES, require_file
from vq_core.files.json_file import read_json
from vq_core.files.tensor_folder import indexed_files
from vq_core.model.pipeline_parts import MODEL_INDEX, read_parts
from vq_core.sampling.pretrained import require_files, require_sizes
from vq_core.sampling.prompts import FIRST_FRAME, TEXT_ONLY, ModelInputs

TEXT_TO_VIDEO = "WanPipeline"
IMAGE_TO_VIDEO = "WanImageToVideoPipeline"
VACE = "WanVACEPipeline"
PIPELINES = (TEXT_TO_VIDEO, IMAGE_TO_VIDEO, VACE)
TRANSFORMERS = ("transformer", "transformer_2")
_VAE_GRID = {"scale_factor_spatial": 8, "scale_factor_temporal": 4}
"""What a VAE's configuration says of its grid, and diffusers' defaults."""
_MISSING = "give a whole diffusers pipeline folder or a hub id of one"


@dataclass(frozen=True)
class PipelineLayout:
    """Parts of a Wan pipeline and the grid of its videos.

    Attributes:
        path: the pipeline's folder.
        pipeline_class: one of `PIPELINES`.
        scheduler_class: its name in diffusers.
        transformers: component names, `transformer` first.
        inputs: the files that it makes videos from, besides text.
        has_image_encoder: whether the transformers attend to CLIP's view of the image (Wan2.1 image-to-video).
        boundary_ratio: noise level below which `transformer_2` takes over; None with one transformer.
        expand_timesteps: whether every token has its own timestep (Wan2.2 5B).
        height_multiple: heights are multiples of it, in pixels.
        width_multiple: widths are multiples of it, in pixels.
        frame_multiple: numbers of frames are a multiple of it, plus 1.
    """

    path: Path
    pipeline_class: str
    scheduler_class: str
    transformers: tuple[str, ...]
    inputs: ModelInputs
    has_image_encoder: bool
    boundary_ratio: float | None
    expand_timesteps: bool
    height_multiple: int
    width_multiple: int
    frame_multiple: int

    @property
    def side_multiple(self) -> int:
        """Both sides are multiples of it where an image or a video gives the aspect."""
        return max(self.height_multiple, self.width_multiple)


def read_layout(path: Path) -> PipelineLayout:
    """Read `model_index.json` of the pipeline folder `path` and the configurations of its VAE and transformer.

    Raises:
        VqError: it is none of the Wan pipelines known here, a part that it lists is missing, or something in one
            is no file.
    """
    index = read_json(path / MODEL_INDEX, missing=_MISSING)
    if index.get("_class_name") not in PIPELINES:
        raise VqError(
            f"{path} is a {index.get('_class_name')}: give a model whose model_index.json says "
            f"{', '.join(PIPELINES[:-1])} or {PIPELINES[-1]}."
        )
    parts = read_parts(path)
    _require_regular_files(path, parts)
    with_images = ("image_processor",) if "image_encoder" in parts else ()
    for name in ("tokenizer", "text_encoder", "vae", "scheduler", "transformer", *with_images, *parts):
        if name not in parts or not (path / name).is_dir():
            raise VqError(f"{path} lacks the part `{name}`: get the whole pipeline.")
        require_files(path / name)
    transformers = tuple(name for name in TRANSFORMERS if name in parts)
    for name in transformers:
        config = read_json(path / name / "config.json", missing=_MISSING)
        family_of(config, str(path / name))[1].topology(config)  # refuses what is no transformer
    boundary = index.get("boundary_ratio")
    if not (isinstance(boundary, float) and 0 < boundary < 1) and (boundary is not None or len(transformers) > 1):
        raise VqError(
            f"{path / MODEL_INDEX} says boundary_ratio={boundary!r:.80}, and two experts need a number between 0 and "
            "1: get the whole pipeline again."
        )
    transformer = read_json(path / "transformer" / "config.json", missing=_MISSING)
    if transformer.get("image_dim") is not None and "image_encoder" not in parts:
        raise VqError(
            f"The transformer of {path} reads what an image encoder gives, and {MODEL_INDEX} lists none: get the whole "
            "pipeline again."
        )
    frame_patch, height_patch, width_patch = transformer["patch_size"]
    pixels, frames = _vae_grid(path)
    return PipelineLayout(
        path=path,
        pipeline_class=index["_class_name"],
        scheduler_class=parts["scheduler"],
        transformers=transformers,
        inputs=_inputs(index, transformer),
        has_image_encoder="image_encoder" in parts,
        boundary_ratio=boundary,
        expand_timesteps=index.get("expand_timesteps", False),
        height_multiple=pixels * height_patch,
        width_multiple=pixels * width_patch,
        frame_multiple=frames * frame_patch,
    )


def _vae_grid(path: Path) -> tuple[int, int]:
    """How many pixels a side, and how many frames, one latent of the VAE stands for."""
    require_sizes(path / "vae" / "config.json")
    vae = read_json(path / "vae" / "config.json", missing=_MISSING)
    grid = {key: vae.get(key, default) for key, default in _VAE_GRID.items()}
    for key, said in grid.items():
        if type(said) is not int or said < 1:
            raise VqError(f"The vae of {path} has {key}={said!r:.80}: get the whole pipeline again.")
    for key in ("latents_mean", "latents_std"):
        if key in vae and (not isinstance(vae[key], list) or len(vae[key]) != vae.get("z_dim", len(vae[key]))):
            raise VqError(f"The vae of {path} should have {vae.get('z_dim')} `{key}`: get the whole pipeline again.")
    pixels, frames = grid.values()
    return pixels, frames


def _require_regular_files(path: Path, parts: Iterable[str]) -> None:
    """Refuse what diffusers and transformers would wait for, or read elsewhere."""
    for part in parts:
        for found in sorted((path / part).rglob("*")):
            if found.exists() and not found.is_dir():  # of a link that dangles, only its reader knows if it is needed
                require_file(found)
                if found.suffix == ".json" and found.stat().st_size > MAX_BYTES:
                    raise VqError(f"{found} is larger than {MAX_BYTES >> 20} MiB: get the whole pipeline again.")
            if found.name.endswith(".safetensors.index.json"):
                indexed_files(found)


def _inputs(index: dict[str, Any], transformer: dict[str, Any]) -> ModelInputs:
    """The files that a pipeline reads, told by its class and by how its transformer takes in an image."""
    if index["_class_name"] == VACE:
        return ModelInputs(optional=("reference_images", "video", "mask"))
    if index.get("expand_timesteps", False):  # Wan2.2's small model: an image is the latent of its first frame
        return ModelInputs(optional=("image",)) if index["_class_name"] == TEXT_TO_VIDEO else FIRST_FRAME
    if index["_class_name"] == TEXT_TO_VIDEO:
        return TEXT_ONLY
    if transformer.get("pos_embed_seq_len") is not None:
        return ModelInputs(required=("image", "last_image"))
    if transformer.get("image_dim") is not None:
        return FIRST_FRAME
    return ModelInputs(required=("image",), optional=("last_image",))  # Wan2.2: frames are only latents to it
