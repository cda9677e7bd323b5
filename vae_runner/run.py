"""One experiment, top to bottom: the page to read first."""

from collections.abc import Callable
from functools import partial

from vae_runner.acceleration.operations import load_for
from vae_runner.compat.tensorflow import custom_gradients_scoped
from vae_runner.config.composition import HydraJob
from vae_runner.datasets.binarization import build_dataset
from vae_runner.evaluation.metrics import evaluated
from vae_runner.experiment import build_experiment, choose_batch_size, initialize
from vae_runner.figures.pictures import Pictures
from vae_runner.runtime import hardware
from vae_runner.schema import Config
from vae_runner.session import Session
from vae_runner.trackers.search_report import Report
from vae_runner.trackers.summary import show_effective_kl_weight, show_summary
from vae_runner.training.outer import Progress
from vae_runner.training.profiling import Profile


def run(
    config: Config,
    job: HydraJob,
    *,
    resumed: bool = False,
    stop_requested: Callable[[], object] | None = None,
    report: Report | None = None,
) -> None:
    """Train as configured, in the directory Hydra chose.

    With `resumed`, there is a run in that directory, and it continues from its newest checkpoint. `stop_requested` is
    asked now and then whether the run is to end, as by a signal. `report` takes the result of each epoch to a search.

    Raises:
        UserError: the configuration does not fit the data or the machine, or training diverged.
        Interrupted: a stop was requested; the run is in a checkpoint.
        Pruned: the search has given the run up, which is in a checkpoint.
    """
    with (
        Session.open(config, job, resumed=resumed, stop_requested=stop_requested, report=report) as session,
        custom_gradients_scoped(),
    ):
        _run(session)


def _run(session: Session) -> None:
    stopwatch = session.stopwatch

    # Custom operations come before the workers join: one that compiles them would let the others wait.
    custom_ops = load_for(session.config.hardware)
    machine = hardware.setup(session.config.hardware, session.config.seed, session.cluster, custom_ops)
    session.stop.reinstall_handlers()
    session.record.note(hardware=machine.description)

    dataset = build_dataset(session.config.dataset)
    session = session.with_batch_size(partial(choose_batch_size, session.config, dataset, machine))
    config = session.config
    experiment = build_experiment(config, machine, stopwatch, session.stop.shielded, dataset)
    trainer = experiment.trainer
    restored = session.restore(experiment)
    if not restored:
        initialize(experiment)
        session.keep_prepared(experiment)
        show_summary(
            experiment.autoencoder, experiment.loss, experiment.dataset, config.images_per_step, machine.description,
            layers=session.shows_layers,
        )  # fmt: skip
    checkpoints = session.checkpoints(experiment)
    trainer.profile = Profile(session.directory.path) if config.profile else None

    with session.trackers(experiment) as trackers:

        def on_progress(progress: Progress) -> None:
            trackers.progress(progress)
            checkpoints.within_epoch()

        pictures = Pictures(config.figures)
        if not trainer.history:
            trackers.configuration(config.content, session.directory.choices)
        stopwatch.since_start("preparation")
        session.record.training_begins()
        with checkpoints.when_interrupted(), session.stopped_together(machine):
            while not experiment.is_over:
                result = trainer.run_epoch(on_progress)
                trackers.epoch(result)
                with stopwatch.on("figures"):
                    for name, figure in pictures.periodic(experiment.trained(), is_last=experiment.is_over):
                        trackers.figure(name, figure, result)
                    session.save_frame(experiment)
                with stopwatch.on("evaluation"):
                    if config.evaluation.is_due(result.epoch) and not experiment.is_over:
                        trackers.evaluation(evaluated(experiment.subject()), result)
                trainer.next_epoch()
                checkpoints.after_epoch(trainer.history, experiment.is_over)

        # The newest checkpoint is that of the last epoch: an interruption has nothing to write.
        row = session.select_models(experiment)
        trained = experiment.trained(row)
        session.save_results(experiment, trained)
        show_effective_kl_weight(experiment.result, experiment.loss, row)
        with stopwatch.on("figures"):
            for name, figure in pictures.final(trained):
                trackers.figure(name, figure)
            session.save_animation(experiment)
        with stopwatch.on("evaluation"):
            session.evaluate(experiment, row)
