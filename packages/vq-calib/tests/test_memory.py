"""Host memory while statistics are summed, joined and merged: some blocks' rows, whatever the model's size."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Run with `blocks`, the large model's; a small one before loads every library that is used. Prints the bytes of peak
# growth and of one block's file. Eight prompts, so that what one bucket of one prompt hands over is small.
PEAK_GROWTH = """
import ctypes, shutil
from pathlib import Path
import torch
from vq_calib.collection.merge import merge
from vq_calib.planning.settings import PromptEntry, RunSettings
from vq_core.artifacts.sums import zero_sums
from vq_calib.planning.token_plan import table_of
from vq_calib.collection.totals import Totals
from vq_core.families.wan import topology
from vq_core.runtime.meter import host_peak_bytes
from vq_core.store.writer import ComponentHeader, Header, create_artifact

PROMPTS, ROWS = 8, 300
CONFIG = {
    "patch_size": [1, 2, 2], "num_attention_heads": 4, "in_channels": 16, "out_channels": 16, "text_dim": 8,
    "freq_dim": 16, "cross_attn_norm": True, "qk_norm": "rms_norm_across_heads", "eps": 1e-6,
}

def gathered(groups, position):
    taken = {"positions": torch.arange(ROWS) + position * ROWS}
    for group in groups:
        taken |= zero_sums(group)
        taken[f"{group.name}.count"] += 1
        if group.sequence == "video":
            taken[f"{group.name}.outlier_keys"] = torch.arange(64).flip(0)
            taken[f"{group.name}.outliers"] = torch.ones(64, group.in_features, dtype=torch.bfloat16)
            taken[f"{group.name}.sampled"] = torch.ones(ROWS, group.in_features, dtype=torch.bfloat16)
        else:
            taken[f"{group.name}.rows"] = torch.ones(1, group.in_features, dtype=torch.bfloat16)
            taken[f"{group.name}.row_counts"] = torch.ones(1, 2, dtype=torch.int64)
    return taken

def part(folder, config, first):
    indices = range(first, PROMPTS, 2)
    wan = topology(config)
    rows = len(indices) * ROWS
    fit = table_of(rows, bucket=7, branch=0, key=torch.arange(rows), prompt=first, step=0, token=torch.arange(rows))
    settings = RunSettings(
        prompts=[PromptEntry(index=index, sha256="", seed=index, split="fit") for index in indices],
        total_prompts=PROMPTS, prompts_sha256="", parts=[f"{first + 1}/2"], tokens=PROMPTS * ROWS * 2, steps=1,
        height=1, width=1, num_frames=1, guidance_scale=5.0, guidance_scale_2=None, seed=0, buckets=8, dtype="bfloat16",
        device="cpu", reduction="eager", torch="", diffusers="",
    )
    components = {"transformer": ComponentHeader("transformer", "f", config)}
    header = Header("activation-stats", 2, "t", "wan", "m", components, settings.model_dump())
    with create_artifact(folder, header) as writer:
        tables = {"transformer": {"fit": fit, "held-out": table_of(0)}}
        totals = Totals(writer, {"transformer": wan}, tables)
        for position in range(len(indices)):
            totals.add_bucket("transformer", 7, gathered(wan.groups, position))
            totals.end_prompt()
        totals.finish()
    return folder

def run(folder, width, blocks):
    config = CONFIG | {"attention_head_dim": width // 4, "ffn_dim": 2 * width, "num_layers": blocks}
    merge([part(folder / str(first), config, first) for first in (0, 1)], folder / "whole")
    return (folder / "whole" / "transformer" / "block_0.safetensors").stat().st_size

# The C library keeps freed tensors under 32 MiB in its heap, and real ones are larger: give these back as well.
M_MMAP_THRESHOLD = -3
ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 16)
run(folder / "small", 32, 1)
before = host_peak_bytes()
size = run(folder / "large", 448, blocks)
print(host_peak_bytes() - before, size)
"""
StartCode = Callable[[str], Any]
SLACK_BYTES = 16 << 20
BLOCKS = 10


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the C library's heap is told to give memory back")
def test_memory_holds_some_blocks_whatever_the_model_s_size(tmp_path: Path, start_code: StartCode) -> None:
    code = f"from pathlib import Path\nfolder, blocks = Path({str(tmp_path)!r}), {BLOCKS}\n{PEAK_GROWTH}"
    done = start_code(code)
    assert done.ended(120) == 0, done.stderr
    grown, block_bytes = map(int, done.stdout.split())
    allowed = 3 * block_bytes + SLACK_BYTES
    assert allowed < BLOCKS * block_bytes / 2  # or the bound would say nothing
    assert grown < allowed, f"grew by {grown / 2**20:.0f} MiB, with {block_bytes / 2**20:.0f} MiB a block"
