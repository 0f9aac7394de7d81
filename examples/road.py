"""The whole road in one file: calibrate a model, smooth it, round it to 8 bits, make a video with it, compare.

    uv run python examples/road.py OUT

It calls the functions that the commands of the stages call. Every step writes a folder below OUT and the next one reads
it, so that each could run on another machine. On two cores it takes about a minute.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from vq_algos.rounding.quantize import quantize
from vq_algos.rounding.quantize_settings import QuantizeSettings
from vq_algos.smoothing.smooth import SmoothSettings, smooth
from vq_calib.collection.collect import collect
from vq_calib.planning.run_plan import CollectRequest
from vq_core.artifacts.checkpoint import open_checkpoint
from vq_core.artifacts.qparams import open_qparams
from vq_core.artifacts.stats import open_stats
from vq_core.artifacts.weights import open_weights
from vq_core.model.source import open_source
from vq_core.runtime.device import resolve_device
from vq_core.sampling.prompts import FIRST_FRAME, read_samples
from vq_core.sampling.settings import Sampling
from vq_eval.compare.compare import compare
from vq_eval.compare.compared_folders import ComparedEntry
from vq_eval.videos.fake_quant import Candidates, make_videos
from vq_export.gate import export
from vq_export.model.quantized_model import from_artifacts
from vq_export.verify.reference import model_reference
from vq_export.verify.verification import enforce
from vq_export.verify.verify import verify
from vq_infer.engine.native import generate
from vq_infer.request import VideoRequest
from vq_wan_tiny.prompts import write_prompts

MODEL = "wan-tiny"  # built in; a folder in diffusers' layout or a hub id would do as well
SCHEME = "int8"  # or fp8
SAMPLING = Sampling(steps=8, height=96, width=96, num_frames=17, guidance_scale=3.0, fps=8)


@dataclass(frozen=True)
class Result:
    """The outcome.

    Attributes:
        weight_snr_db: of the linear whose weight lost most by rounding.
        psnr_db: of the quantized model's video against that of full precision; None where they are equal.
    """

    weight_snr_db: float
    psnr_db: float | None


def walk(out: Path, sampling: Sampling = SAMPLING) -> Result:
    """Take the road from `MODEL` to a comparison of videos; everything that is made lies below `out`."""
    device = resolve_device(None)

    # Prompts with first frames, from the world that the model was trained on. What is measured is none of what
    # statistics are gathered on.
    write_prompts(out / "calibration", count=3, seed=1, held_out=False)
    write_prompts(out / "prompts", count=1, seed=0, held_out=True)

    # 1. Sample every prompt with the real pipeline, and gather what each linear reads: the largest value of every
    #    channel, sums, and a sample of the rows. One prompt of the three is held out for judging.
    collect(CollectRequest(MODEL, out / "calibration", sampling, device=device), out / "stats")
    stats = open_stats(out / "stats")

    # 2. Divide what a linear reads by s, channel by channel, and multiply the columns of its weight by s. The division
    #    is folded into whatever comes before, so that the function stays the same; outlier channels shrink.
    source = open_source(MODEL)
    smooth(source, stats, SmoothSettings(method="smoothquant", scheme=SCHEME), out / "smoothed", device=device)
    weights = open_weights(out / "smoothed")

    # 3. Round each row of each weight to 8-bit codes with one scale. GPTQ makes up for the error of each column in the
    #    columns after it; `auto` keeps that only where held-out tokens say that it is better than plain rounding.
    quantize(weights, QuantizeSettings(SCHEME, method="auto"), out / "qparams", stats=stats, device=device)

    # 4. Rename and write what LightX2V loads, then read it back cold: against the table of what LightX2V needs, and
    #    tensor by tensor against the model.
    export("lightx2v", from_artifacts(weights, open_qparams(out / "qparams")), out / "checkpoint", verify=False)
    checkpoint = open_checkpoint(out / "checkpoint")
    verified = verify(checkpoint, model_reference(source, checkpoint), device=device)
    enforce(verified, out / "checkpoint")

    # 5. One video with the checkpoint, its linears multiplied as 8-bit codes, and the same in full precision.
    (sample,) = read_samples(out / "prompts", FIRST_FRAME)
    quantized, full = out / "quantized" / "000.mkv", out / "full"
    quantized.parent.mkdir()
    generate(VideoRequest("i2v", MODEL, out / "checkpoint", sample, quantized, sampling, device))
    make_videos(MODEL, Candidates(("full",)), out / "prompts", sampling, full, device=device)

    # 6. Compare them, frame by frame.
    reference = ComparedEntry("full precision", "reference", full / "full")
    candidate = ComparedEntry(SCHEME, "candidate", quantized.parent)
    report = compare((reference, candidate), out / "report", prompts=out / "prompts", device=device)

    snrs = [snr for linears in verified.weight_snr_db.values() for snr in linears.values()]
    return Result(min(snrs), report.rows[0].overall["psnr"].mean)


if __name__ == "__main__":
    result = walk(Path(sys.argv[1]))
    print(f"The weight that lost most keeps {result.weight_snr_db:.1f} dB; the video has {result.psnr_db:.1f} dB PSNR.")
