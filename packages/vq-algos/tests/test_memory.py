"""Memory is that of two blocks, whatever the model's size."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vq_core.families.wan import topology
from vq_core.topology import block_of

Config = dict[str, Any]
MakeModel = Callable[..., Path]
MakeStats = Callable[..., Path]
StartCode = Callable[[str], Any]

# Run with `stage`, the folders `small` and `large` with a model and its statistics, and `result`, the file to write.
PEAK_GROWTH = """
import ctypes, resource
from pathlib import Path
from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.smoothing.smooth import SmoothSettings, smooth
from vq_core.artifacts.stats import open_stats
from vq_core.artifacts.weights import open_weights
from vq_core.model.source import open_source

def run(folder):
    if stage == "smooth":
        stats = open_stats(folder / "stats")
        smooth(open_source(str(folder / "model")), stats, SmoothSettings(), folder / "smoothed")
    else:
        quantize(open_weights(folder / "smoothed"), QuantizeSettings("int8"), folder / "qparams")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

# The C library keeps freed tensors under 32 MiB in its heap, and real ones are larger: give these back as well.
M_MMAP_THRESHOLD = -3
ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)
run(Path(small))  # loads every library that the stage uses
before = peak()
run(Path(large))
Path(result).write_text(str(peak() - before))
"""
SLACK_BYTES = 16 << 20


def test_memory_holds_two_blocks_whatever_the_models_size(
    start_code: StartCode, make_model: MakeModel, make_stats: MakeStats, i2v_config: Config, tmp_path: Path
) -> None:
    wide = {"num_attention_heads": 8, "attention_head_dim": 96, "added_kv_proj_dim": 768, "ffn_dim": 2048}
    large = i2v_config | wide | {"num_layers": 8}
    for size, config in (("small", i2v_config), ("large", large)):
        make_stats(make_model(config, name=f"{size}/model"), name=f"{size}/stats")
    block_bytes = 4 * sum(math.prod(shape) for name, shape in topology(large).tensors.items() if block_of(name) == 0)
    allowed = 2 * block_bytes + SLACK_BYTES
    assert allowed < large["num_layers"] * block_bytes / 3  # or the bound would say nothing
    for stage in ("smooth", "quantize"):
        names = {"stage": stage} | {name: str(tmp_path / name) for name in ("small", "large", "result")}
        started = start_code("".join(f"{name} = {value!r}\n" for name, value in names.items()) + PEAK_GROWTH)
        assert started.ended(120) == 0, started.stderr
        grown = int((tmp_path / "result").read_text())
        assert grown < allowed, f"{stage} grew by {grown / 2**20:.0f} MiB, with {block_bytes / 2**20:.0f} MiB a block"
