"""Write the file that vq-infer runs, and ComfyUI with our node: with gains, rotated inputs and FP8 per channel."""

from vq_core.artifacts.comfyui_checkpoint import NATIVE_KIND
from vq_core.remote.location import Location
from vq_core.store.writer import Check
from vq_export.comfyui_file import linears_told, write_files
from vq_export.model.quantized_model import QuantizedModel
from vq_export.next_steps import verify_and_infer
from vq_export.verify.verify import verify_file_per_transformer

VERIFIER = verify_file_per_transformer
next_steps = verify_and_infer


def export(model: QuantizedModel, output: Location, *, resume: bool = False, check: Check | None = None) -> None:
    """Write `model` to the folder `output`; see `write_files`."""
    write_files(model, NATIVE_KIND, output, resume=resume, check=check)


def notes(model: QuantizedModel) -> dict[str, str]:
    """How many linears read a rotated input, and stay in full precision."""
    return linears_told(model)
