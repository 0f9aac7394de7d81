"""No export holds a whole model or file in memory, which a thread samples meanwhile."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vq_core.files.tensor_file import TensorSpec, read_header
from vq_export.encoders import t5
from vq_export.writing.tensor_stream import stream_tensors

Peaks = Callable[..., list[int]]
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

WATCH = """
import ctypes, sys, threading
from pathlib import Path
import torch

def memory_bytes(kind):
    line = next(l for l in Path("/proc/self/status").read_text().splitlines() if l.startswith(kind))
    return int(line.split()[1]) * 1024

def peak_of(work, kind="RssAnon"):
    before, seen, done = memory_bytes(kind), [0], threading.Event()
    def watch():
        while not done.wait(0.002):
            seen.append(memory_bytes(kind))
    thread = threading.Thread(target=watch)
    thread.start()
    work()
    done.set()
    thread.join()
    return max(seen) - before

torch.set_num_threads(1)
# The C library keeps freed tensors under 32 MiB in its heap, as many as it likes: give them back at once.
M_MMAP_THRESHOLD = -3
ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)
warm, big, output = sys.argv[1:]
"""
CONVERT = """
from vq_core.recipes.recipe import Recipe
from vq_export.export import open_model
from vq_export.options import ExportOptions
from vq_export.targets import target_named

def convert(model, folder, target, scheme):
    target_named(target).export(open_model(ExportOptions(model=model, scheme=scheme), Recipe()), Path(folder))
"""
# Resident memory, the mapped source included.
LIGHTX2V = f"""{CONVERT}
for scheme in ("int8", "fp8"):
    convert(warm, output + scheme + "-warm", "lightx2v", scheme)
    print(peak_of(lambda: convert(big, output + scheme, "lightx2v", scheme), "VmRSS"))
"""
COMFYUI = f"""{CONVERT}
convert(warm, output + "-warm", "comfyui", "int8")
print(peak_of(lambda: convert(big, output, "comfyui", "int8")))
"""
ENCODERS = """
from vq_core.numerics.scheme import scheme_named
from vq_export.encoders import readers
from vq_export.encoders.export import export_encoders
from vq_export.encoders.source import open_encoders

readers.PIECE_BYTES = 4 << 20

def convert(model, folder):
    export_encoders(open_encoders(model, {}), scheme_named("int8"), Path(folder), model="model")

convert(warm, output + "-warm")
print(peak_of(lambda: convert(big, output)))
"""


@pytest.fixture
def peaks(start_code: Callable[[str], Any]) -> Peaks:
    """`peaks(script, warm, big, output)`: what the script prints, run after `WATCH` in a process of its own."""

    def run(script: str, *paths: Path) -> list[int]:
        done = start_code(f"import sys\nsys.argv = {['', *map(str, paths)]}\n{WATCH}{script}")
        assert done.ended(120) == 0, done.stderr
        return [int(line) for line in done.stdout.split()]

    return run


def write_random(path: Path, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> int:
    """A file with the tensors `shapes`; returns its size in bytes."""
    pool = torch.randn(1 << 22, generator=torch.Generator().manual_seed(0)).to(dtype)
    with stream_tensors(path, {name: TensorSpec(dtype, shape) for name, shape in shapes.items()}, {}) as stream:
        for name, shape in shapes.items():
            rows = max(1, pool.numel() // torch.Size(shape[1:]).numel())
            for begin in range(0, shape[0], rows):
                part = torch.Size((min(rows, shape[0] - begin), *shape[1:]))
                stream.append(name, pool[: part.numel()].reshape(part))
    return path.stat().st_size


def test_lightx2v_holds_two_blocks(peaks: Peaks, tmp_path: Path, models: dict[str, Path], big_model: Path) -> None:
    (file,) = big_model.glob("*.safetensors")
    sizes = {name: info.end - info.begin for name, info in read_header(file).items()}
    block_bytes = sum(size for name, size in sizes.items() if name.startswith("blocks.0."))
    allowed = 2 * block_bytes + (16 << 20)
    assert allowed < sum(sizes.values()) / 3  # or the bound would say nothing
    for peak in peaks(LIGHTX2V, models["t2v"], big_model, tmp_path / "out"):
        # Fewer than the codes of one block would mean that the sampling missed the work.
        assert block_bytes / 2 < peak < allowed, f"{peak / 2**20:.0f} MiB, with {block_bytes / 2**20:.0f} MiB a block"


def test_a_file_for_comfyui(peaks: Peaks, tmp_path: Path, models: dict[str, Path], big_model: Path) -> None:
    (file,) = big_model.glob("*.safetensors")
    assert file.stat().st_size > 150e6  # of which the codes alone are half
    codes = 4096 * 512
    # Of two linears the weight, its codes and some rows in fp32; 40 MB for all else.
    (peak,) = peaks(COMFYUI, models["t2v"], big_model, tmp_path / "out")
    assert peak < 2 * 4 * codes + 40e6


def test_the_files_of_encoders(peaks: Peaks, tmp_path: Path) -> None:
    config = {
        "vocab_size": 40000, "d_model": 512, "d_kv": 64, "d_ff": 4096, "num_layers": 3, "num_heads": 8,
        "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
        "feed_forward_proj": "gated-gelu", "layer_norm_epsilon": 1e-06,
    }  # fmt: skip
    folders = []
    for name, changes in (("warm", {"vocab_size": 9, "d_ff": 16, "num_layers": 1}), ("big", {})):
        folder = tmp_path / name / "text_encoder"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(config | changes))
        (folder.parent / "model_index.json").write_text('{"text_encoder": ["transformers", "UMT5EncoderModel"]}')
        native = t5.shapes_of_config(config | changes)
        shapes = {t5.in_transformers(tensor)[0]: shape for tensor, shape in native.items()}
        size = write_random(folder / "model.safetensors", shapes, torch.float32)
        folders.append(folder.parent)
    assert size > 160e6
    # Two pieces of 4 MiB, a few times; their largest tensor alone has 82 MB.
    (peak,) = peaks(ENCODERS, *folders, tmp_path / "out")
    assert peak < 60e6
