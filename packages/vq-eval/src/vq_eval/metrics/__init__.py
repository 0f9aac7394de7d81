"""Full-reference video metrics, one module each; a module's name is the metric's name.

Adding a metric is adding a file here that fulfils `Metric`. Higher figures are better; infinity means "no difference".
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, cast

from vq_core.discover import load_plugin

if TYPE_CHECKING:
    from torch import Tensor


class Metric(Protocol):
    """What a module of this package offers."""

    FORMAT: str
    """Format string of one figure with its unit, `"{:.2f} dB"`."""

    MIN_SIDE: int
    """Least height and width in pixels for which the metric is defined."""

    def of_frame(self, reference: "Tensor", candidate: "Tensor") -> float:
        """Figure of one frame; both are uint8 `[3, height, width]`."""

    def over_video(self, per_frame: Sequence[float]) -> float:
        """Figure of a whole video from those of its frames."""


def load_metric(name: str) -> Metric:
    """The metric `name`.

    Raises:
        VqError: there is no such metric; the message lists the known ones.
    """
    return cast(Metric, load_plugin(__name__, name))


def figure_text(name: str, value: float | None) -> str:
    """A figure of the metric `name` for people; None, an infinite figure, reads "identical"."""
    return "identical" if value is None else load_metric(name).FORMAT.format(value)
