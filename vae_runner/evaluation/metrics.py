"""Every metric of an evaluation, and which of them a configuration asks for."""

from vae_runner.evaluation.evaluate import Metric, measured
from vae_runner.evaluation.groups import disentanglement, likelihood, probes, reconstruction, samples, structure
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.evaluation.subject import Subject

METRICS: tuple[Metric, ...] = (
    *likelihood.METRICS,
    *structure.METRICS,
    *reconstruction.METRICS,
    *disentanglement.METRICS,
    *probes.METRICS,
    *samples.METRICS,
)


def metrics_of(config: EvaluationConfig) -> list[Metric]:
    """Return the metrics that a configuration asks for."""
    return [metric for metric in METRICS if metric.group in config.metrics and metric.is_asked_for(config)]


def evaluated(subject: Subject) -> dict[str, float]:
    """Return the values of all metrics that the configuration asks for, without those that cannot be measured."""
    values: dict[str, float] = {}
    for metric in metrics_of(subject.config):
        subject.found = values
        values = {**values, **measured(subject, metric, lambda done: None).found.values}
    return values
