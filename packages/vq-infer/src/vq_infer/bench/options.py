"""What can be said on the command line; free of heavy imports."""

from dataclasses import dataclass

from vq_core.remote.location import Location


@dataclass(frozen=True)
class BenchOptions:
    """What was said on the command line; None where nothing was.

    Attributes:
        model_size: of random weights.
        checkpoint: a converted checkpoint for our contenders; the others have random weights of its shape.
        component: of the checkpoint.
        contenders: all that there are, where none is named.
        height, width, num_frames: of the video.
        device: to measure on.
        seconds: of steady load for each contender.
        blocks: how many are measured.
        extrapolate: from those to the whole model.
        start_limit: seconds that a first step may take.
        details: break a pass down by kinds of work.
        chart: draw one.
        output: folder for JSON, page and chart.
    """

    model_size: str | None = None
    checkpoint: Location | None = None
    component: str = "transformer"
    contenders: tuple[str, ...] = ()
    height: int = 480
    width: int = 832
    num_frames: int = 81
    device: str | None = None
    seconds: float = 15.0
    blocks: int | None = None
    extrapolate: bool = False
    start_limit: float = 300.0
    details: bool = True
    chart: bool = True
    output: Location | None = None
