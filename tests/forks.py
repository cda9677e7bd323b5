"""Commands without the import of TensorFlow, which is half of what a short one takes.

They are forks of a process that has imported TensorFlow. All else is the command's own, from its entry point to its
exit status, but that its standard input is empty, and that it says where Python was if native code ends it. What is
decided before or while TensorFlow is imported is tested with processes that start from nothing.
"""

import atexit
import faulthandler
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.util import Finalize
from pathlib import Path

import vae_runner
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

# Environment variables that are read before or while TensorFlow is imported, by how they begin.
READ_AT_IMPORT = ("PYTHON", "TF_", "KERAS_", "CUDA_", "XLA_", "OMP_", "LD_", "HOME", "XDG_", "MPL")
PREPARED = {"MPLBACKEND": "agg", "TF_CPP_MIN_LOG_LEVEL": "2"}  # A command that is run in a test's process leaves these.
AT_IMPORT = {**PREPARED, **os.environ}


def can_be_forked(words: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Return whether a command with all these environment variables does the same in a fork."""
    if not {"-m", "--multirun"}.isdisjoint(words):  # A sweep imports no TensorFlow, but begins processes that do.
        return False
    given = {**PREPARED, **variables}
    return all(given.get(name) == AT_IMPORT.get(name) for name in given | AT_IMPORT if name.startswith(READ_AT_IMPORT))


class ForkedCommand:
    """An installed command in a fork: what `subprocess.Popen` is for a process that starts from nothing.

    Args:
        words: its path and arguments.
        cwd: the folder it runs in.
        variables: all its environment variables.
    """

    def __init__(self, words: Sequence[str], cwd: Path, variables: Mapping[str, str]) -> None:
        self._words = words
        self._folder = tempfile.TemporaryDirectory()
        files = [Path(self._folder.name) / name for name in ("stdout", "stderr")]
        self._process = FORKS.Process(target=_command, args=(words, cwd, dict(variables), *files))
        self._process.start()
        # Else the end of this process would wait for a command that a failed test has left behind.
        self.at_exit = Finalize(self, self._process.kill, exitpriority=10)
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """The exit status, minus the number of the signal that has ended it, or None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """Return what `returncode` is."""
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Send it SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; return the exit status.

        Raises:
            subprocess.TimeoutExpired: it has not ended after `timeout` seconds.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self._words, timeout or 0)
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; return all that it has written to its standard output, and to standard error."""
        self.wait(timeout)
        stdout, stderr = (Path(self._folder.name, name).read_text() for name in ("stdout", "stderr"))
        return stdout, stderr


def run_in_fork(
    words: Sequence[str], cwd: Path, variables: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run an installed command as `subprocess.run` would.

    Raises:
        subprocess.TimeoutExpired: it has not ended after `timeout` seconds; it is killed.
    """
    command = ForkedCommand(words, cwd, variables)
    try:
        stdout, stderr = command.communicate(timeout)
    finally:
        command.kill()
    return subprocess.CompletedProcess(words, command.wait(), stdout, stderr)


def _command(words: Sequence[str], cwd: Path, variables: Mapping[str, str], stdout: Path, stderr: Path) -> None:
    for descriptor, path in ((1, stdout), (2, stderr)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    faulthandler.enable()  # Where native code ends the process, its standard error says what Python was doing.
    # As in the foreground: a shell's background jobs, and nohup, ignore these.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    environment.prepare()
    sys.argv = list(words)
    vae_runner.STARTED = time.time()
    is_interrupted = False
    try:
        getattr(commands, Path(words[0]).name.removeprefix("vae-"))()
    except KeyboardInterrupt:
        traceback.print_exc()
        is_interrupted = True
    finally:
        atexit._run_exitfuncs()  # A fork would end without.
    if is_interrupted:  # Python ends by the signal then, after it has written all.
        sys.stdout.flush()
        sys.stderr.flush()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
