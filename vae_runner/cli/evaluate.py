"""`vae-evaluate`: what can be measured of a finished run, or of every finished run of a sweep."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vae_runner.errors import Interrupted, UserError
from vae_runner.evaluation.evaluate import settings_of
from vae_runner.evaluation.metrics import METRICS
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.evaluation.subject import Subject
from vae_runner.experiment import load, load_dataset
from vae_runner.runtime.console import console, plain
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.stored_run import StoredRun
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.trackers.evaluation import measure, scalars, show
from vae_runner.trackers.tensorboard import write_evaluation


def evaluate(
    path: Path, config: EvaluationConfig, trust: Sequence[str], moved: Mapping[str, str | None], *, again: bool
) -> None:
    """Measure a finished run, or each of a sweep; print the values, and keep them in the run's directory.

    `moved` has the keys that say where the images are now, if not where the run found them. What has been measured
    before of the same weights, with the same keys, is measured only `again`.

    Raises:
        UserError: there is no finished run, or its images are not there, or the results cannot be written.
        Interrupted: a stop was requested; what has been measured is kept.
    """
    sweep = SweepDirectory(path)
    runs = [run.path for run in sweep.runs if run.status == "finished"] if sweep.exists else [path]
    if not runs:
        raise UserError(f"{path} is a sweep without a finished run: wait for one, or resume it")
    try:
        for run in runs:
            if sweep.exists:
                console.print(plain(run), soft_wrap=True)
            _evaluate(StoredRun.open_finished(run), config, trust, moved, again=again)
    except Interrupted as interrupt:
        raise Interrupted(
            interrupt.signal_number, "interrupted: what has been measured is kept; the same command measures the rest"
        ) from interrupt


def _evaluate(
    stored: StoredRun, config: EvaluationConfig, trust: Sequence[str], moved: Mapping[str, str | None], *, again: bool
) -> None:
    wanted = [metric for metric in METRICS if metric.group in config.metrics]
    kept = stored.evaluation
    left = [m for m in wanted if again or kept.get(m.name, {}).get("settings") != settings_of(m, config)]
    if left:
        directory = RunDirectory(stored.path)
        folder = directory.evaluation_file.parent
        if not os.access(folder, os.W_OK):
            raise UserError(f"{folder} cannot be written, where the results are kept: mend its permissions")
        subject = Subject(load(stored, trust), load_dataset(stored, trust, **moved), config)
        kept = measure(subject, left, directory, stored.weights_digest, kept)
        write_evaluation(stored.tensorboard, stored.info["step"], scalars(kept))
    show(kept, wanted)
    console.print(plain(f"Kept in {stored.evaluation_file}"), soft_wrap=True)
