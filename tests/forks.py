"""Commands without the import of TensorFlow, which is half of what a short one takes.

They are forks of a process that has imported TensorFlow. All else is the command's own, from its entry point to its
exit status. What is decided before or while TensorFlow is imported is tested with processes that start from nothing.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from vae_runner.cli import commands
from vae_runner.runtime import environment

FORKS = multiprocessing.get_context("forkserver")
# All that the commands import, but for the modules that do their work: with those they look for devices.
FORKS.set_forkserver_preload(
    [
        *("vae_runner.cli.main", "tensorflow", "keras", "vae_runner.experiment", "vae_runner.session"),
        *("vae_runner.figures.pictures", "vae_runner.trackers.evaluation", "vae_runner.trackers.tensorboard"),
        *("vae_runner.training.profiling", "vae_runner.evaluation.metrics", "vae_runner.evaluation.udr"),
        *("matplotlib.backends.backend_agg", "PIL.PngImagePlugin", "sklearn.datasets", "hydra._internal.hydra"),
    ]
)


def run_in_fork(
    words: Sequence[str], cwd: Path, variables: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run an installed command, whose path and arguments are `words`, as `subprocess.run` would.

    Raises:
        subprocess.TimeoutExpired: it has not ended after `timeout` seconds; it is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = Path(folder) / "stdout", Path(folder) / "stderr"
        process = FORKS.Process(target=_command, args=(words, cwd, dict(variables), stdout, stderr))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout)
        return subprocess.CompletedProcess(words, process.exitcode, stdout.read_text(), stderr.read_text())


def _command(words: Sequence[str], cwd: Path, variables: Mapping[str, str], stdout: Path, stderr: Path) -> None:
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    environment.prepare()
    sys.argv = list(words)
    getattr(commands, Path(words[0]).name.removeprefix("vae-"))()
