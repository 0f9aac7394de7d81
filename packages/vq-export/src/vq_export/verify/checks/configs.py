"""The settings that LightX2V reads: config.json, which it indexes directly, and a run config per kernel backend."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vq_core.artifacts.checkpoint import CHECKPOINT_PLACEHOLDER, RUN_CONFIG_FOLDER, ConvertedCheckpoint
from vq_core.errors import VqError
from vq_core.files.json_file import read_json
from vq_export.verify.checks.lightx2v_reads import number_format

CONFIG_FILE = "config.json"
QUANT_METHOD = "advanced_ptq"
OLD = "old"
"""Folder of the run configs for releases that name the kernels in `mm_config`."""


def json_or_empty(path: Path) -> dict[str, Any]:
    """The JSON object in `path`; empty where there is none, which the checks of its keys report."""
    try:
        return read_json(path)
    except VqError:
        return {}


def run_config_files(checkpoint: ConvertedCheckpoint) -> list[Path]:
    """The run configs beside the checkpoint, those of old releases last."""
    folder = checkpoint.artifact.path / RUN_CONFIG_FOLDER
    return [*sorted(folder.glob("*.json")), *sorted((folder / OLD).glob("*.json"))]


def config_problems(checkpoint: ConvertedCheckpoint) -> Iterator[str]:
    """Keys of config.json that are missing or wrong, and run configs that do not fit the checkpoint."""
    path = checkpoint.artifact.path / CONFIG_FILE
    config = json_or_empty(path)
    component = next(iter(checkpoint.components.values()))
    for key, value in checkpoint.family.native_config(component.config).items():
        if config.get(key) != value:
            yield f"{path} says {key}={config.get(key)!r} and the model has {value!r}."
    files = run_config_files(checkpoint)
    if not files:
        yield f"{path.parent / RUN_CONFIG_FOLDER} holds no run config: LightX2V would not know the scheme."
    # With two experts LightX2V takes the method from the run config.
    for file in (path, *files):
        method = json_or_empty(file).get("quant_method")
        if (method == QUANT_METHOD) != checkpoint.has_gains:
            state = "has gains" if checkpoint.has_gains else "has no gains"
            yield (
                f"{file} says quant_method={method!r} while the checkpoint {state}: "
                f"LightX2V applies gains exactly when it is {QUANT_METHOD!r}."
            )
    for file in files:
        run_config = json_or_empty(file)
        yield from (f"{file} {problem}." for problem in _scheme_problems(run_config, checkpoint.scheme))
        yield from (f"{file} {problem}." for problem in _place_problems(run_config, checkpoint))


def _scheme_problems(run_config: dict[str, Any], fmt: str) -> Iterator[str]:
    if "mm_config" in run_config:
        named = run_config["mm_config"].get("mm_type") if isinstance(run_config["mm_config"], dict) else None
        if not str(named).startswith(f"W-{fmt}-channel-sym-A-{fmt}-channel-sym-dynamic-"):
            yield f"names the kernels {named!r} and the codes are {fmt}"
        return
    if run_config.get("dit_quantized") is not True:
        yield f"says dit_quantized={run_config.get('dit_quantized')!r}: LightX2V would read the codes as weights"
    scheme = run_config.get("dit_quant_scheme")
    if number_format(scheme) != fmt:
        yield f"says dit_quant_scheme={scheme!r} and the codes are {fmt}"


def _place_problems(run_config: dict[str, Any], checkpoint: ConvertedCheckpoint) -> Iterator[str]:
    """The paths of the weights in the run config, and the keys that two experts need."""
    folders = {name: entry.folder for name, entry in checkpoint.artifact.manifest.components.items()}
    if len(folders) == 1:
        wanted: dict[str, Any] = {"dit_quantized_ckpt": CHECKPOINT_PLACEHOLDER}
    else:
        # dit_quantized_ckpt would take precedence over each expert's own key, and both would be the same model.
        wanted = {"dit_quantized_ckpt": None} | {
            f"{expert}_noise_quantized_ckpt": f"{CHECKPOINT_PLACEHOLDER}/{expert}_noise_model"
            for expert in ("high", "low")
        }
    for key, value in wanted.items():
        if run_config.get(key) != value:
            yield f"says {key}={run_config.get(key)!r} and should say {value!r}"
    if len(folders) == 2:
        yield from _boundary_problems(run_config)
        if not isinstance(scales := run_config.get("sample_guide_scale"), list) or len(scales) != 2:
            yield f"says sample_guide_scale={scales!r}: LightX2V needs one for each expert"


def _boundary_problems(run_config: dict[str, Any]) -> Iterator[str]:
    """Distilled models go through a list of timesteps, and their boundary is a place in it."""
    why = "LightX2V needs it to tell when the low-noise expert takes over"
    if isinstance(steps := run_config.get("denoising_step_list"), list):
        index = run_config.get("boundary_step_index")
        if not isinstance(index, int) or not 0 <= index <= len(steps):
            yield f"says boundary_step_index={index!r}: {why}"
    elif not isinstance(boundary := run_config.get("boundary"), float) or not 0 < boundary < 1:
        yield f"says boundary={boundary!r}: {why}"
