"""One metric after the other: what each has found, or what keeps it from being measured."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata

import numpy as np
from numpy.typing import NDArray

from vae_runner import __version__
from vae_runner.config.keys import Content
from vae_runner.errors import UserError
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.evaluation.subject import Subject
from vae_runner.runtime.hardware import full_precision

LIBRARIES = ("tensorflow", "keras", "numpy", "scipy", "scikit-learn")
Report = Callable[[float], None]  # takes the fraction of a metric that is done


@dataclass(frozen=True)
class Found:
    """What a metric has found."""

    values: Mapping[str, float]
    standard_errors: Mapping[str, float] = field(default_factory=dict)  # of some of the values
    notes: Sequence[str] = ()  # sentences that a reader of the values needs
    how: Mapping[str, object] = field(default_factory=dict)  # how many images, of which split, …
    arrays: Mapping[str, Mapping[str, NDArray[np.generic]]] = field(default_factory=dict)  # to be kept, by file
    pictured: Mapping[str, object] = field(default_factory=dict)  # what pictures are drawn of, by their names


@dataclass(frozen=True)
class Metric:
    """One metric: its group in `evaluation.metrics`, and the keys that decide its value."""

    name: str
    group: str
    measure: Callable[[Subject, Report], Found]
    keys: Sequence[str] = ()  # those of `EvaluationConfig`, beside the seed
    uses: Sequence[str] = ()  # values of other metrics, where there are any
    files: Callable[[EvaluationConfig], Mapping[str, str]] = lambda config: {}  # hashes of the user's files it reads
    is_asked_for: Callable[[EvaluationConfig], bool] = lambda config: True  # where its group is


@dataclass(frozen=True)
class Result:
    """A metric's entry in a run's `evaluation/metrics.json`."""

    found: Found
    settings: Content  # the values of its keys
    refusal: str = ""  # what kept it from being measured
    seconds: float = 0.0

    @property
    def content(self) -> Content:
        """Return the entry: what was found, or the refusal, and how."""
        entry: Content = {"settings": self.settings, "seconds": round(self.seconds, 2), "versions": versions()}
        if self.refusal:
            return {"refused": self.refusal, **entry}
        # Of one image there is no standard error.
        errors = {name: error for name, error in self.found.standard_errors.items() if np.isfinite(error)}
        found = {
            "values": self.found.values,
            "standard_errors": errors,
            "notes": self.found.notes,
            "how": self.found.how,
        }
        return {**found, **entry}


def versions() -> dict[str, str]:
    """Return the versions of what numbers depend on."""
    return {"vae_runner": __version__, **{name: metadata.version(name) for name in LIBRARIES}}


def settings_of(metric: Metric, config: EvaluationConfig, found: Mapping[str, float]) -> Content:
    """Return what decides a metric's value: its keys, what its files hold, and values `found` by other metrics."""
    values = {name: asdict(getattr(config, name)) for name in metric.keys}
    uses = {"uses": {name: found[name] for name in metric.uses if name in found}} if metric.uses else {}
    return {"seed": config.seed, **values, **metric.files(config), **uses}


def measured(subject: Subject, metric: Metric, report: Report) -> Result:
    """Return what a metric finds, or what keeps it from being measured."""
    settings, start = settings_of(metric, subject.config, subject.found), time.perf_counter()
    try:
        with full_precision():  # of classifiers that are trained on features
            found, refusal = metric.measure(subject, report), ""
        broken = [name for name, value in found.values.items() if not np.isfinite(value)]
        if broken:
            refusal = (
                f"{broken[0]} is {found.values[broken[0]]}: the weights, or what they make of images, are no numbers"
            )
            found = Found({})
    except UserError as error:
        found, refusal = Found({}), str(error)
    return Result(found, settings, refusal, time.perf_counter() - start)
