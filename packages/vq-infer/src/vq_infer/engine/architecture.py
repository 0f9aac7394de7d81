"""The check that converted transformers fit into the pipeline around them."""

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.errors import VqError
from vq_core.files.json_file import read_json
from vq_core.sampling.pipeline_layout import PipelineLayout

# Keys of the configuration in which a transformer must agree with the model that gives encoders and VAE.
ARCHITECTURE = (
    "in_channels", "out_channels", "text_dim", "image_dim", "added_kv_proj_dim", "num_layers", "num_attention_heads",
    "attention_head_dim", "ffn_dim", "pos_embed_seq_len", "vace_layers", "vace_in_channels",
)  # fmt: skip


def require_same_architecture(checkpoint: ConvertedCheckpoint, layout: PipelineLayout) -> None:
    """Check that the checkpoint's transformers fit into the pipeline that `layout` describes.

    Only configurations are read, so the model's own transformer weights need not be there.

    Raises:
        VqError: names the first difference.
    """
    path, converted = checkpoint.artifact.path, checkpoint.artifact.manifest.components
    if sorted(converted) != sorted(layout.transformers):
        raise VqError(
            f"{path} holds {' and '.join(sorted(converted))} and {layout.path} has "
            f"{' and '.join(layout.transformers)}: give the model that the checkpoint was made from."
        )
    for name, entry in converted.items():
        own = read_json(layout.path / name / "config.json", missing="get the whole pipeline again")
        for key in ARCHITECTURE:
            if entry.config.get(key) != own.get(key):
                raise VqError(
                    f"{path} was made from another model: its {name} has {key} {entry.config.get(key)} and that of "
                    f"{layout.path} has {own.get(key)}: give the model that it was made from."
                )
