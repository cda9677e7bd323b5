"""`vae-evaluate`: what can be measured of a finished run, or of every finished run of a sweep."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from vae_runner.config.composition import content_of
from vae_runner.config.fingerprint import fingerprint
from vae_runner.errors import Interrupted, UserError, counted
from vae_runner.evaluation.evaluate import Found, Result
from vae_runner.evaluation.labelled_codes import random_code
from vae_runner.evaluation.metrics import metrics_of
from vae_runner.evaluation.schema import GROUPS, EvaluationConfig
from vae_runner.evaluation.udr import UDR_IMAGES, udr
from vae_runner.experiment import subject_of
from vae_runner.runtime.console import console, plain
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.stored_run import StoredRun
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.report import Report
from vae_runner.trackers.evaluation import Entries, is_kept, measure, scalars, show
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
    measured, refusals = [], []
    try:
        if not sweep.exists:
            _evaluate(StoredRun.open_finished(path), config, trust, moved, again=again)
            return
        for run in sweep.runs:
            try:
                if run.status != "finished":
                    continue
                console.print(plain(run.path), soft_wrap=True)
                _evaluate(StoredRun.open_finished(run.path), config, trust, moved, again=again)
                measured.append(StoredRun(run.path))
            except UserError as error:  # The others are measured all the same.
                refusals.append(f"{run.path}: {error}")
                console.print(plain(error), soft_wrap=True)
    except Interrupted as interrupt:
        raise Interrupted(
            interrupt.signal_number, "interrupted: what has been measured is kept; the same command measures the rest"
        ) from interrupt
    if not measured and not refusals:
        raise UserError(f"{path} is a sweep without a finished run: wait for one, or resume it")
    if "disentanglement" in config.metrics:
        _compare_seeds(measured, config.seed)
    Report(sweep).write()
    if refusals:
        tried = len(measured) + len(refusals)
        which = "the run" if tried == 1 else f"{len(refusals)} of {counted(tried, 'run')}"
        raise UserError(f"{which} could not be measured: {refusals[0]}")


def _compare_seeds(runs: Sequence[StoredRun], seed: int) -> None:
    """Measure and print how much the codes of runs that differ in their seeds alone resemble each other."""
    by_configuration: dict[str, list[StoredRun]] = {}
    for run in runs:
        by_configuration.setdefault(fingerprint(content_of(run.config), without=["seed"]), []).append(run)
    for alike in by_configuration.values():
        if len(alike) < 2:
            continue
        try:
            codes = [run.embeddings[0] for run in alike]
            # Of a fitted Gaussian dimension: the KL divergence that goes with the variance of its mean.
            kl = [-0.5 * np.log1p(-np.minimum(np.var(of_run, axis=0, dtype=np.float64), 1 - 1e-9)) for of_run in codes]
            by = {name: udr(codes, kl, by=name, seed=seed) for name in ("lasso", "spearman")}
            of_noise = [random_code(len(of), of.shape[1], seed + number) for number, of in enumerate(codes)]
            chance = {name: udr(of_noise, by=name, seed=seed) for name in ("lasso", "spearman")}
        except UserError as error:
            console.print(plain(f"Not measured: udr: {error}"), soft_wrap=True)
            continue
        for number, run in enumerate(alike):
            values = {}
            for name, of_runs in by.items():
                values[f"udr[{name}]"] = float(of_runs.scores[number])
                values[f"udr[{name}, random code]"] = float(chance[name].scores[number])
            how = {
                "runs": [other.path.name for other in alike], "n": min(len(codes[number]), UDR_IMAGES), "split": "test",
                "code": "mean", "left_out": "dimensions whose means have a variance below 0.02",
            }  # fmt: skip
            entry = Result(Found(values, how=how), {"seed": seed}).content
            kept = RunDirectory(run.path).save_evaluation({"udr": entry}, run.weights_digest)
            write_evaluation(run.path, run.models_step, scalars(kept))
            console.print(plain(f"{run.path}: " + ", ".join(f"{n} {v:.3f}" for n, v in values.items())), soft_wrap=True)


def _evaluate(
    stored: StoredRun, config: EvaluationConfig, trust: Sequence[str], moved: Mapping[str, str | None], *, again: bool
) -> None:
    show(entries_of(stored, config, trust, moved, again=again), metrics_of(config))
    console.print(plain(f"Kept in {stored.evaluation_file}"), soft_wrap=True)


def entries_of(
    stored: StoredRun, config: EvaluationConfig, trust: Sequence[str], moved: Mapping[str, str | None], *, again: bool
) -> Entries:
    """Return the entries of all metrics that the run keeps, when those of `config` are measured; keep these too.

    Raises:
        UserError: its images are not there, or the results cannot be written.
    """
    wanted = metrics_of(config)
    anew: Collection[str] = GROUPS if again else ()
    if not again and moved.get("factors") is not None:
        anew = ("disentanglement",)  # The factors may be others than those of a result that is kept.
    kept: Entries = stored.evaluation
    if not all(metric.group not in anew and is_kept(metric, config, kept) for metric in wanted):
        folder = stored.evaluation_file.parent
        if folder.exists() and not os.access(folder, os.W_OK):
            raise UserError(f"{folder} cannot be written, where the results are kept: mend its permissions")
        digest = stored.weights_digest  # before they are read: of others that come meanwhile nothing is kept
        subject = subject_of(stored, config, trust, **moved)
        kept = measure(subject, wanted, RunDirectory(stored.path), digest, anew=anew)
        write_evaluation(stored.path, stored.models_step, scalars(kept))
    return kept
