"""The installed commands: from what their work raises to one line and an exit status.

What the user can mend becomes one line on standard error and exit status 2; what is our fault keeps its traceback.
The work is in `cli`, and is imported where Ctrl-C is answered already: it takes a moment.
"""

import importlib
import sys

from vae_runner.errors import UserError, exit_status, permissions_explained
from vae_runner.runtime.interruption import ignore_signals, signals_raise
from vae_runner.runtime.streams import BestEffortStream, best_effort_output


def run() -> None:
    """`vae-run`: one run, or with `-m` a sweep of them, configured by Hydra."""
    _command("vae-run")


def sample() -> None:
    """`vae-sample`: new images from a finished run."""
    _command("vae-sample")


def compare() -> None:
    """`vae-compare`: finished runs side by side."""
    _command("vae-compare")


def evaluate() -> None:
    """`vae-evaluate`: what can be measured of a finished run, or of those of a sweep."""
    _command("vae-evaluate")


def runs() -> None:
    """`vae-runs`: which runs there are below a folder, and the best of them; their tags and notes."""
    _command("vae-runs")


def encode() -> None:
    """`vae-encode`: the latents of the user's own images."""
    _command("vae-encode")


def reconstruct() -> None:
    """`vae-reconstruct`: the user's own images, encoded and decoded again."""
    _command("vae-reconstruct")


def _command(name: str) -> None:
    with best_effort_output(), signals_raise():
        try:
            _work(name)
            _check_output()
        except UserError as error:
            print(f"{name}: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt as interrupt:
            ignore_signals()  # more of them: it ends
            print(f"{name}: {str(interrupt) or 'interrupted'}", file=sys.stderr)
            sys.exit(exit_status(interrupt))


def _work(name: str) -> None:
    from vae_runner.cli.options import check_hyphens

    check_hyphens(sys.argv[1:])
    # What vae-runs does needs none of Hydra, which takes a moment to import.
    module = importlib.import_module("vae_runner.cli.runs" if name == "vae-runs" else "vae_runner.cli.main")
    try:
        with permissions_explained():
            getattr(module, name.removeprefix("vae-"))()
    except SystemExit as end:  # of Hydra's or argparse's, after a question is answered
        if end.code:
            raise


def _check_output() -> None:
    """Tell of what was said and could not be written, unless nobody wanted to read it."""
    sys.stdout.flush()
    if isinstance(sys.stdout, BestEffortStream) and (problem := sys.stdout.problem):
        raise UserError(
            f"the standard output cannot be written ({problem.strerror}): all else is done; send it elsewhere"
        )
