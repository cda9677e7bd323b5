"""What the commands do: from the command line to the code that does the work.

Nothing here imports TensorFlow, so that `--help`, `--cfg job` and refusals answer at once.
"""

import argparse
import contextlib
import gc
import importlib
import logging
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.plugins.sweeper import Sweeper
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from vae_runner import __version__
from vae_runner.acceleration import operations
from vae_runner.cli import resume as resume_command
from vae_runner.cli.completion import SCRIPT, UNINSTALL, complete_options
from vae_runner.cli.composing import as_hydra_reads, check_is_no_sweep
from vae_runner.cli.evaluation_config import evaluation_config
from vae_runner.cli.one_run import do_run
from vae_runner.cli.options import DRY_RUN, Parser, arguments, explain_option, whole_number
from vae_runner.cli.rerun import Rerun, taken_out
from vae_runner.compat import hydra as hydra_internals
from vae_runner.compat import keras as keras_internals
from vae_runner.config import refusals
from vae_runner.config.checks import check, check_folder
from vae_runner.config.choices import check_choices, help_text, without_nothing
from vae_runner.config.composition import HydraJob, content_of
from vae_runner.config.fingerprint import fingerprint
from vae_runner.errors import UnfitError, UserError, check_name, counted, exit_status, first_line
from vae_runner.files.folders import make_next_folder
from vae_runner.fitted_priors.schema import KINDS
from vae_runner.runtime import environment, garbage
from vae_runner.runtime.interruption import raise_if_swallowed
from vae_runner.schema import SEARCH, register_schemas
from vae_runner.storage.stored_run import source_of_weights
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.job import LAUNCHING, WORKER_LOST, check_stop, install_launcher_handlers, sweep_job
from vae_runner.sweeps.names import register_resolver
from vae_runner.sweeps.search import Search

log = logging.getLogger(__name__)

# Here, because the processes of a launcher import this module to find the function they run.
register_resolver()
environment.prepare()

# conf/config.yaml's, for the folder of a run: only a command that runs something makes it.
OmegaConf.register_new_resolver("next_folder", str, replace=True)
OmegaConf.register_new_resolver("choices", help_text, replace=True)  # of its help text

REFUSALS = (HydraException, OmegaConfBaseException)
# What Hydra lets through while it reads a command line that makes no sense to it.
UNEXPLAINED = (OSError, ValueError, TypeError, AttributeError, KeyError, AssertionError, yaml.YAMLError)
# What launchers raise when a process that ran a job is gone: joblib's, submitit's, Ray's.
WORKER_LOST_ERRORS = ("TerminatedWorkerError", "UncompletedJobError", "WorkerCrashedError")
COMPLETION = ("--shell-completion", "-sc")  # which has Hydra's parser expect overrides
SHOWN_REASONS = 2  # of why combinations are left out of a sweep
IN_MEMORY = "/dev/shm"  # a folder that is there, and can be written, where no other can


def sample() -> None:
    """`vae-sample`: new images from a finished run."""
    parser = _parser("vae-sample", "Draw new images from a finished run: decode latents drawn from its prior.")
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory: outputs/<date>/<time>")
    number = partial(whole_number, least=1)
    parser.add_argument("-n", "--number", metavar="N", type=number, help="how many images (64; of a path 10)")
    parser.add_argument(
        "--out", metavar="FILE", type=Path, default=Path("samples.png"),
        help="where to: a .png of all of them, or a .npy with a uint8 array [n, height, width, channels] (samples.png)",
    )  # fmt: skip
    seed = partial(whole_number, least=0)
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="another seed, other images (0)")
    parser.add_argument(
        "--label", metavar="NAME", help="a conditional run's class, its name or number (all of them in turn)"
    )
    parser.add_argument(
        "--prior", choices=tuple(KINDS),
        help="draw from a density of the training images' latents instead: a mixture of Gaussians, or a normalizing "
        "flow; of codes, a network that gives one after the other. It is fitted when first asked for, and kept in the "
        "run directory",
    )  # fmt: skip
    help_ = "how many Gaussians the mixture has (as many as fit held-out latents best, up to 50)"
    parser.add_argument("--components", metavar="N", type=number, help=help_)
    help_ = "variations of an image instead: decode draws from its posterior"
    parser.add_argument("--like", metavar="IMAGE", type=Path, help=help_)
    help_ = "a path from one image to another instead: decode latents on the line between theirs"
    parser.add_argument("--between", metavar="IMAGE", nargs=2, type=Path, help=help_)
    _add_places_of_images(parser)
    given = parser.parse_args(arguments())
    if sum(chosen is not None for chosen in (given.prior, given.like, given.between)) > 1:
        raise UserError("--prior, --like and --between each say which latents are decoded: give one of them")
    if given.components and given.prior != "mixture":
        raise UserError(f"--components {given.components} is of a mixture: add --prior mixture")
    moved = {"root": given.root, "data_dir": given.data_dir}
    if given.prior is None and any(moved.values()):
        raise UserError("--root and --data-dir say where training images are, which only --prior needs: add that")
    work = _import("cli.sample")
    count = given.number or (10 if given.between else 64)
    if given.like:
        work.variations(given.run, given.like, count, given.out, given.seed, given.trust, given.label)
    elif given.between:
        work.path_between(given.run, tuple(given.between), count, given.out, given.trust, given.label)
    else:
        fit = given.prior and work.Fit(given.prior, given.components or 0, moved)
        work.sample(given.run, count, given.out, given.seed, given.trust, given.label, fit)


def encode() -> None:
    """`vae-encode`: the latents of the user's own images."""
    parser = _parser(
        "vae-encode",
        "Write what a finished run encodes images to: the means of their posteriors, and draws on request. The images "
        "are prepared as those that the run was trained on.",
    )
    _add_own_images(parser)
    help_ = "where to: an .npz of arrays, or a .csv with a line for each image (codes.npz)"
    parser.add_argument("--out", metavar="FILE", type=Path, default=Path("codes.npz"), help=help_)
    help_ = "also K draws of each posterior"
    parser.add_argument("--draws", metavar="K", type=partial(whole_number, least=1), default=0, help=help_)
    seed = partial(whole_number, least=0)
    parser.add_argument("--seed", metavar="N", type=seed, default=0, help="another seed, other draws (0)")
    given = parser.parse_args(arguments())
    work = _import("cli.own_images")
    labelling = work.Labelling(given.label, given.labels is not None)
    work.encode(given.run, given.images, given.out, given.draws, given.seed, labelling, given.trust)


def reconstruct() -> None:
    """`vae-reconstruct`: the user's own images, encoded and decoded again."""
    parser = _parser(
        "vae-reconstruct",
        "Write what a finished run makes of images: each encoded and decoded again, a .png of the same name. The "
        "images are prepared as those that the run was trained on.",
    )
    _add_own_images(parser)
    help_ = "where to: a new folder, with sub-folders as the images have (reconstructions)"
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("reconstructions"), help=help_)
    given = parser.parse_args(arguments())
    work = _import("cli.own_images")
    labelling = work.Labelling(given.label, given.labels is not None)
    work.reconstruct(given.run, given.images, given.out, labelling, given.trust)


def compare() -> None:
    """`vae-compare`: finished runs side by side."""
    parser = _parser(
        "vae-compare",
        "Draw finished runs side by side: latent spaces (of a prior on the same axes), samples, reconstructions of the "
        "same test images, and a table of metrics, which is also written as CSV next to the picture. Of a whole sweep: "
        "make its sweep.csv, sweep_groups.csv and sweep.html anew.",
    )
    parser.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="run directories, outputs/<date>/<time>; or one sweep's"
    )
    help_ = "the picture, a .png (compare.png); a sweep's files are in its directory"
    parser.add_argument("--out", metavar="FILE", type=Path, help=help_)
    given = parser.parse_args(arguments())
    sweep = SweepDirectory(given.runs[0])
    if len(given.runs) == 1 and sweep.exists:
        if given.out is not None:
            raise UserError(f"--out {given.out}: sweep.csv and sweep.html of a sweep are in it; leave --out out")
        from vae_runner.sweeps.report import Report

        report = Report(sweep)
        report.write()
        report.show()
        return
    _import("cli.compare").compare(given.runs, given.out or Path("compare.png"), given.trust)


def evaluate() -> None:
    """`vae-evaluate`: what can be measured of a finished run, or of every finished run of a sweep."""
    parser = _parser(
        "vae-evaluate",
        "Measure a finished run on its test images: log-likelihood, what its latent space is like, reconstructions, "
        "how well classes are told from z; and say in words what that means. Of a sweep: every finished run.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory, outputs/<date>/<time>; or a sweep's")
    help_ = (
        "what is measured, and how: evaluation=all, likelihood, structure, reconstruction, disentanglement, probes or "
        "samples; evaluation.likelihood.samples=1000 …; conf/evaluation/default.yaml explains the keys"
    )
    parser.add_argument("overrides", metavar="evaluation…=…", nargs="*", help=help_)
    parser.add_argument("--again", action="store_true", help="measure anew what has been measured before")
    _add_places_of_images(parser)
    help_ = "a CSV of the images' factors, as dataset.factors= says of a run, which may have been trained without"
    parser.add_argument("--factors", metavar="FILE", help=help_)
    given = parser.parse_intermixed_args(arguments())
    config = evaluation_config([as_hydra_reads(override) for override in given.overrides])
    moved = {"root": given.root, "data_dir": given.data_dir, "factors": given.factors}
    _import("cli.evaluate").evaluate(given.run, config, given.trust, moved, again=given.again)


# --- what the commands share -----------------------------------------------------------------------------------


def _import(name: str, crash_file: Path | None = None) -> ModuleType:
    """Return a module of ours that needs TensorFlow; should the import end the process, `crash_file` will tell of it.

    Raises:
        UserError: TensorFlow would not work with what the environment says.
    """
    environment.check()
    full_name = f"vae_runner.{name}"
    if full_name in sys.modules:  # the later runs of a sweep
        return sys.modules[full_name]
    _choose_temporary_folder()
    from vae_runner.runtime.console import native_stderr_to_log

    keras_internals.ignore_warning_of_import()
    with native_stderr_to_log(crash_file), garbage.uncollected(), keras_internals.without_settings_file():
        module = importlib.import_module(full_name)
        import matplotlib
        import tensorflow as tf

        matplotlib.rcdefaults()  # figures look as we draw them, and not as the user's matplotlibrc has others look
        tf.config.list_physical_devices()  # looks for GPUs now, and not in the middle of a progress bar
        gc.freeze()  # Nearly all of these objects stay: later searches leave them out.
    raise_if_swallowed()
    return module


def _choose_temporary_folder() -> None:
    """See that there is one, which TensorFlow and others take for granted: where none can be written, in memory."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        if not os.access(IN_MEMORY, os.W_OK):
            raise UserError("no folder for temporary files can be written: set TMPDIR to one that can") from error
        os.environ["TMPDIR"] = tempfile.tempdir = IN_MEMORY


def _parser(name: str, description: str) -> Parser:
    """Return the parser of a command that reads a run, whose configuration may name code."""
    parser = Parser(name, description)
    parser.add_argument(
        "--trust", metavar="MODULE", action="append", default=[],
        help="a module that a run's configuration may name for its networks: my_model; ours need no mention",
    )  # fmt: skip
    return parser


def _add_places_of_images(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where a run's images are now."""
    help_ = "where the run's images are now, as dataset.root= says of a run"
    parser.add_argument("--root", metavar="DIR", help=help_)
    parser.add_argument("--data-dir", metavar="DIR", help="the same for data_dir=")


def _add_own_images(parser: argparse.ArgumentParser) -> None:
    """Add a run, images of the user's own, and what says of which classes these are."""
    parser.add_argument("run", metavar="RUN", type=Path, help="a run directory: outputs/<date>/<time>")
    parser.add_argument("images", metavar="IMAGES", type=Path, help="a folder, read with all below it; or one image")
    labels = parser.add_mutually_exclusive_group()
    labels.add_argument("--label", metavar="NAME", help="of a conditional run: the class of all images")
    help_ = "of a conditional run: each image lies in a folder of its class's name"
    labels.add_argument("--labels", choices=("folders",), help=help_)


# --- vae-run: Hydra -------------------------------------------------------------------------------------------


def run() -> None:
    """`vae-run`: one run, or with `-m` a sweep of them; refusals of Hydra's become ours, with the closest real name."""
    command = arguments()
    if _completes(command) and complete_options():
        return
    is_sweep, is_dry, for_hydra = _check_options([as_hydra_reads(argument) for argument in command])
    for_hydra, rerun = taken_out(for_hydra)
    sys.argv[1:] = resume_command.rewritten(for_hydra)
    jobs = _Jobs(command, rerun)
    if is_dry:
        _list_runs(jobs)
    elif not is_sweep:
        _with_hydra(None, jobs)
        if _completes(command) and "install=bash" in command:
            print(SCRIPT)
        if _completes(command) and "uninstall=bash" in command:
            print(UNINSTALL)
    elif LAUNCHING in os.environ:
        sweep = SweepDirectory(Path(os.environ[LAUNCHING]))
        os.environ[LAUNCHING] = str(os.getpid())
        install_launcher_handlers(sweep)
        try:
            _with_hydra(sweep, jobs)
        except KeyboardInterrupt as interrupt:  # of which the supervisor tells
            sys.exit(exit_status(interrupt))
    else:
        from vae_runner.sweeps.supervisor import supervise

        supervise(sys.argv[1:])


def _list_runs(jobs: "_Jobs") -> None:
    """Show the runs of a sweep, and begin none; what Hydra writes of a sweep goes into a folder that is deleted."""
    from vae_runner.sweeps.dry_run import planned, show

    directory, for_hydra = planned(sys.argv[1:])

    def show_them(sweeper: Sweeper, runs: list[list[str]]) -> NoReturn:
        show(directory, _fitting_runs(sweeper, runs, directory))
        sys.exit()

    with tempfile.TemporaryDirectory(prefix="vae-run-") as folder:
        sys.argv[1:] = [f"hydra.sweep.dir={refusals.quoted(Path(folder))}", *for_hydra]  # options last
        _with_hydra(None, jobs, show_them)


def _with_hydra(sweep: SweepDirectory | None, jobs: "_Jobs", choose: hydra_internals.ChooseRuns | None = None) -> None:
    """Compose the configuration and run, or launch the runs of a sweep."""
    hydra_internals.raise_errors()
    hydra_internals.list_groups_on_demand()
    register_schemas()
    hydra_internals.choose_runs_with(choose or _checked_runs)
    if sweep:
        hydra_internals.register_sweeper(SEARCH, Search)
    if _completes(sys.argv):
        hydra_internals.list_groups_quickly()
        hydra_internals.complete_nested_choices()
    with _hydra_errors_explained(sweep, jobs):
        hydra.main(config_path="pkg://vae_runner.conf", config_name="config", version_base="1.3")(jobs.run)()
    if sweep:
        check_stop(sweep)
    if jobs.refusal is not None:
        raise jobs.refusal


@contextlib.contextmanager
def _hydra_errors_explained(sweep: SweepDirectory | None, jobs: "_Jobs") -> Iterator[None]:
    """Make a UserError of what Hydra, or a plugin of its, raises inside, if the user can mend it."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # It is raised again, at least.
        if sweep:
            check_stop(sweep)  # A launcher raises errors of its own when its runs were stopped.
            if type(error).__name__ in WORKER_LOST_ERRORS:
                log.error("%s", first_line(error))
                sys.exit(WORKER_LOST)
        plugin = _plugin_in(error)
        # Once a job has begun, the configuration has been composed: the command line is not at fault any more.
        refused = REFUSALS if plugin else (*REFUSALS, *UNEXPLAINED)
        if isinstance(error, refused) and not jobs.count:
            raise UserError(refusals.explain(error)) from error
        if plugin:
            raise UserError(f"{plugin}: {type(error).__name__}: {error}") from error
        raise


def _checked_runs(sweeper: Sweeper, runs: list[list[str]]) -> list[list[str]]:
    """Return the runs of a sweep, of these overrides, and record in its directory that it expects them."""
    assert sweeper.config is not None
    sweep = SweepDirectory(Path(sweeper.config.hydra.sweep.dir))
    fitting = _fitting_runs(sweeper, runs, sweep)
    sweep.expect(fitting)
    return list(fitting.values())


def _fitting_runs(sweeper: Sweeper, runs: list[list[str]], sweep: SweepDirectory | None) -> dict[str, list[str]]:
    """Return the overrides of the runs of a sweep by what identifies each run.

    All are checked before the first begins, also that there is the run `init_from` of those that have not begun
    earlier: these do not need it any more. With `sweep.unfit=skip` those whose parts do not fit are left out. A search
    does not know its runs before: there, a bad one is a failed trial.
    """
    assert sweeper.hydra_context is not None
    assert sweeper.config is not None
    fitting: dict[str, list[str]] = {}
    refusals, sources = [], []
    begun = sweep.folders if sweep else {}
    for overrides in runs:
        composed = sweeper.hydra_context.config_loader.load_sweep_config(sweeper.config, overrides)
        with read_write(composed), open_dict(composed):
            del composed["hydra"]  # as for a run
        try:
            check(composed)
        except UnfitError as error:
            if composed.sweep.unfit != "skip":
                raise
            refusals.append(str(error))
        else:
            identity = fingerprint(content_of(composed))
            fitting.setdefault(identity, overrides)  # Of two that compute the same, the first.
            if composed.init_from is not None and identity not in begun:
                sources.append(composed.init_from)
    for source in dict.fromkeys(sources):
        source_of_weights(source)
    if refusals:
        reasons = list(dict.fromkeys(refusals))
        first = "; ".join(reasons[:SHOWN_REASONS]) + ("; …" if len(reasons) > SHOWN_REASONS else "")
        if not fitting:
            raise UserError(f"sweep.unfit=skip: none of {counted(len(runs), 'combination')} fits: {first}")
        print(f"Left out {len(refusals)} of {len(runs)} combinations, which do not fit: {first}", flush=True)
    return fitting


def _plugin_in(error: Exception) -> str | None:
    """Return the plugin of Hydra's that an error comes from, if any: a launcher that cannot reach its cluster, say."""
    names = (frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__))
    return next((name.split(".")[1] for name in names if name.startswith("hydra_plugins.")), None)


class _Jobs:
    """The job of this command, or those of a sweep, of which none keeps the others from running."""

    def __init__(self, command: Sequence[str], rerun: Rerun | None) -> None:
        self.count = 0
        self.refusal: UserError | None = None
        self._command = command  # its arguments, as they were given
        self._rerun = rerun

    def run(self, cfg: DictConfig) -> float | str | None:
        self.count += 1
        logging.captureWarnings(True)  # into the run's log
        hydra = HydraConfig.get()
        path = Path(hydra.runtime.output_dir)

        def runner() -> ModuleType:
            operations.begin(cfg.hardware)  # takes longer than the import
            return _import("run", crash_file)

        in_sweep = hydra.mode == RunMode.MULTIRUN
        crash_file = SweepDirectory(path.parent).crash_file if in_sweep else None
        if in_sweep:
            return sweep_job(cfg, HydraJob.of(hydra, self._command), hydra, path, runner)
        try:
            do_run(cfg, hydra, self._command, runner, self._rerun)
        except UserError as error:
            self.refusal = error
        return None


def _check_options(arguments: list[str]) -> tuple[bool, bool, list[str]]:
    """Refuse unknown options; return whether these ask for a sweep, whether for a dry one, and Hydra's arguments."""
    arguments = without_nothing(arguments)
    parser = hydra_internals.arguments_parser()
    parser.add_argument(DRY_RUN, action="store_true")

    def error(message: str) -> NoReturn:
        raise UserError(explain_option(parser, message))

    parser.error = error  # type: ignore[method-assign]
    if "--version" in arguments:
        print(f"vae-runner {__version__}")
        sys.exit(0)
    given = parser.parse_intermixed_args([a for a in arguments if a not in COMPLETION])
    check_choices(given.overrides)
    works = not (given.help or given.hydra_help or given.cfg or given.info or _completes(arguments))
    if works:
        try:
            check_name(str(Path.cwd()))
        except OSError as problem:
            raise UserError(f"this folder cannot be used any more ({problem.strerror}): go to another") from problem
        for argument in arguments:
            check_name(argument)
    if works and not given.multirun:
        check_is_no_sweep(given.overrides)
        OmegaConf.register_new_resolver("next_folder", _next_folder, replace=True, use_cache=True)
    for override in given.overrides:
        if folder := re.fullmatch(r"(hydra\.run\.dir|sweep\.dir|hydra\.sweep\.dir)=(.*)", override):
            check_folder(folder[1], folder[2].strip("'"))
    options, overrides = [], list(given.overrides)
    for argument in arguments:  # Hydra does not take options from among the overrides
        if argument in overrides:
            overrides.remove(argument)
        elif argument != DRY_RUN:
            options.append(argument)
    is_sweep = bool(given.multirun) and works
    if given.dry_run and works and not is_sweep:
        raise UserError(f"{DRY_RUN} is for a sweep: add -m, or see with --cfg job what one run would be")
    return is_sweep, is_sweep and given.dry_run, [*given.overrides, *options]


def _completes(arguments: list[str]) -> bool:
    return any(argument in COMPLETION for argument in arguments)


def _next_folder(name: str) -> str:
    try:
        return str(make_next_folder(Path(name)))
    except OSError:
        return name  # Hydra will find out the same, and tell of it
