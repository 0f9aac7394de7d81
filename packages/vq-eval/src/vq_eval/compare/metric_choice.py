"""The metrics to measure: those that were requested and that this machine can measure."""

from collections.abc import Mapping
from dataclasses import dataclass

from vq_core.errors import VqError
from vq_eval.metrics import Metric, load_metric, metric_names

ALL = "all"


@dataclass(frozen=True)
class MetricChoice:
    """The metrics to measure by name, and the others with the reason why not."""

    metrics: Mapping[str, Metric]
    unavailable: Mapping[str, str]


def choose_metrics(asked: str) -> MetricChoice:
    """The metrics of `asked`: comma-separated names, in that order, or `all`, in the order of `Metric.ORDER`.

    `all` leaves out metrics that cannot be measured on this machine.

    Raises:
        VqError: an unknown metric, one that is named twice, or a named one that cannot be measured here.
    """
    names = metric_names() if asked == ALL else [name.strip() for name in asked.split(",")]
    if len(set(names)) != len(names):
        raise VqError(f"`--metrics {asked}` names a metric twice: name each once.")
    metrics = {name: load_metric(name) for name in names}
    if asked == ALL:
        metrics = dict(sorted(metrics.items(), key=lambda item: (item[1].ORDER, item[0])))
    reasons = {name: metric.missing() for name, metric in metrics.items()}
    unavailable = {name: reason for name, reason in reasons.items() if reason is not None}
    if unavailable and asked != ALL:
        name, reason = next(iter(unavailable.items()))
        raise VqError(f"`{name}` cannot be measured here: {reason}, or leave it out of --metrics.")
    return MetricChoice({name: metric for name, metric in metrics.items() if name not in unavailable}, unavailable)
