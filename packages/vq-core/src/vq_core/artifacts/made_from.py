"""Whether a checkpoint is run with the model that it was made from, as far as that can be known."""

import logging
from pathlib import Path, PurePosixPath

from vq_core.artifacts.checkpoint import ConvertedCheckpoint
from vq_core.errors import VqError
from vq_core.files.given_file import is_there
from vq_core.model.source import FILE_SUFFIXES, open_source

_log = logging.getLogger(__name__)


def require_made_from(checkpoint: ConvertedCheckpoint, model: str, path: Path) -> None:
    """Refuse to run `checkpoint` with another model; warn where that may be what was meant or cannot be known.

    The run takes text encoder, VAE and scheduler from `model`, which lies in `path`. It is the right one if its
    transformers have the fingerprints that the checkpoint records, LoRAs included. Reads the headers of its weights
    and 8 KiB of every tensor.

    Raises:
        VqError: names both models.
    """
    if checkpoint.is_imported:  # made from codes, and nothing says what those were made from
        return
    where, recorded = checkpoint.artifact.path, checkpoint.artifact.manifest.model
    same = _has_same_weights(checkpoint, path)
    if same or (same is None and _plain(recorded) == _plain(model)):
        return
    made = f"{where} was made from {recorded}"
    if same is None:
        _log.warning("%s, and nothing in %s tells whether it is that model: make sure that it is.", made, model)
    elif recorded != model and (_plain(recorded) == _plain(model) or _is_transformer_alone(recorded)):
        _log.warning("%s, and the transformer in %s is another one: make sure that the other parts fit.", made, model)
    else:
        raise VqError(
            f"{made}, and {model} is another model: give the one it was made from, or a pipeline without the weights "
            "of its transformer, whose other parts are those of that model."
        )


def _has_same_weights(checkpoint: ConvertedCheckpoint, path: Path) -> bool | None:
    """Whether the transformers in `path` are those of the checkpoint without its LoRAs; None if there are none."""
    try:
        found = open_source(str(path)).components
    except VqError:
        return None
    return found.keys() == checkpoint.components.keys() and all(
        found[name].fingerprint_with(made.lora) == made.fingerprint for name, made in checkpoint.components.items()
    )


def _plain(model: str) -> str:
    """The last part of a model's name; Wan-AI's layout and diffusers' are published under names like this."""
    return PurePosixPath(model).name.removesuffix("-Diffusers")


def _is_transformer_alone(model: str) -> bool:
    """Whether `model` is known to be no pipeline: a fine-tuned transformer is run with the parts of another model."""
    path = Path(model)
    return model.endswith(FILE_SUFFIXES) or (path.is_dir() and not is_there(path / "model_index.json"))
