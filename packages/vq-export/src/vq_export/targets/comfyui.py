"""Write the file that ComfyUI loads as a diffusion model: INT8 per channel, or a plain model in FP8 per tensor."""

from vq_core.artifacts.comfyui_checkpoint import KIND
from vq_core.errors import VqError
from vq_core.numerics.scheme import FP8, schemes_named
from vq_core.remote.location import Location
from vq_core.store.writer import Check
from vq_core.targets import require_input_means
from vq_export.comfyui_file import file_of, linears_told, rounding_of, write_files
from vq_export.model.quantized_model import QuantizedModel
from vq_export.next_steps import verify_and_infer
from vq_export.verify.verify import verify_file_per_transformer

VERIFIER = verify_file_per_transformer


def export(model: QuantizedModel, output: Location, *, resume: bool = False, check: Check | None = None) -> None:
    """Write `model` to the folder `output`.

    Raises:
        VqError: ComfyUI has no place for the gains, or for one FP8 scale per channel; see `write_files`.
    """
    if model.has_gains:
        raise VqError(
            "ComfyUI has no gains of modulated norms, and these weights have some: smooth the model with "
            "`vq-algos smooth --target comfyui`, or export for lightx2v or native."
        )
    if model.subtracts:
        require_input_means("comfyui")
    if FP8 in schemes_named(model.scheme) and rounding_of(model) is None:
        raise VqError(
            "ComfyUI reads one FP8 scale per tensor, and these codes have one per channel: quantize to int8, or "
            "convert the model itself with --model and --scheme fp8."
        )
    write_files(model, KIND, output, resume=resume, check=check)


def notes(model: QuantizedModel) -> dict[str, str]:
    """How many linears read a rotated input, and stay in full precision."""
    return linears_told(model)


def next_steps(model: QuantizedModel, output: Location) -> str:
    """The same as for vq-infer, which runs the file too, and where ComfyUI looks for it."""
    files = ", ".join(str(output / file_of(model, name)) for name in model.components)
    copy = f"copy {files} to ComfyUI/models/diffusion_models and choose it in the node Load Diffusion Model"
    return f"{copy}\nor here: {verify_and_infer(model, output)}"
