"""How much memory a run takes, and whether a sweep keeps any of it: `python -m benchmarks.memory`.

Peaks are the kernel's, of the whole process (`ru_maxrss`); the peak of importing TensorFlow alone is shown beside them.
A sweep's growth is that of its process from its fifth run on, when nothing happens for the first time any more.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback

from benchmarks.rounds import Contestant, Figures, interleave, python, ratios, show, spread, values

VAE_RUN = str(Path(sys.executable).with_name("vae-run"))
MAXRSS_BYTES = 1 if sys.platform == "darwin" else 1024  # the unit of ru_maxrss
SETTLED = 5  # runs of a sweep, after which its memory should not grow


def main() -> None:
    """Measure in rounds and show the tables; with a name, measure that once and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("contestant", nargs="?", choices=[*PEAKS, "sweep"], help="what to measure alone, once")
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure each")
    parser.add_argument("--runs", type=int, default=25, help="one-epoch runs of the sweep")
    arguments = parser.parse_args()
    if arguments.contestant:
        measured = PEAKS.get(arguments.contestant, partial(sweep, arguments.runs))
        print(json.dumps(measured()))
        return
    contestants = [Contestant(name, python("benchmarks.memory", name)) for name in PEAKS]
    grown = Contestant("sweep", python("benchmarks.memory", "sweep", "--runs", arguments.runs))
    results = interleave([*contestants, grown], arguments.rounds)
    peaks = {name: values(results, name, "gigabytes") for name in PEAKS}
    rows = [[TITLES[name], spread(peaks[name]), spread(ratios(peaks[name], peaks["tutorial"]))] for name in PEAKS]
    title = f"Peak memory, GB: median of {arguments.rounds} rounds (lowest–highest)"
    show(title, ["what", "GB", "of the tutorial's"], rows)
    row = [spread(values(results, "sweep", f"{when}_megabytes"), ".0f") for when in ("settled", "last")]
    row.append(spread(values(results, "sweep", "megabytes_a_run")))
    title = f"Memory of a sweep of {arguments.runs} one-epoch digits runs, MB"
    show(title, [f"after run {SETTLED}", f"after run {arguments.runs}", "growth a run"], [row])


# --- what is measured ---------------------------------------------------------------------------------------------


def peak(*words: str) -> Figures:
    """Run a command, and return the peak of its resident memory in GB.

    Raises:
        SystemExit: the command failed; its error output is shown.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [word.format(folder=folder) for word in words], capture_output=True, text=True, check=False
        )
    if result.returncode != 0:
        sys.exit(result.stderr)
    return {"gigabytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * MAXRSS_BYTES / 1e9}


def sweep(runs: int) -> Figures:
    """Run a sweep of one-epoch runs, and return the memory of its process after the settled and the last run, in MB.

    Raises:
        SystemExit: the sweep failed; its error output is shown.
    """
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "bytes.txt")
        command = [
            *(VAE_RUN, "-m", "dataset=digits", "epochs=1", f"seed=range({runs})", f"hydra.sweep.dir={folder}/sweep"),
            "+hydra.callbacks.memory._target_=benchmarks.memory.AfterEachRun",
            f"+hydra.callbacks.memory.log={log}",
        ]
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            sys.exit(result.stderr)
        megabytes = [int(line) / 1e6 for line in log.read_text().splitlines()]
    settled, last = megabytes[SETTLED - 1], megabytes[-1]
    growth = (last - settled) / (len(megabytes) - SETTLED)
    return {"settled_megabytes": settled, "last_megabytes": last, "megabytes_a_run": growth}


class AfterEachRun(Callback):
    """A Hydra callback that logs the resident memory of this process after each run; Linux only."""

    def __init__(self, log: str) -> None:
        self._log = Path(log)

    def on_job_end(self, *_: Any, **__: Any) -> None:
        """Append the resident memory, in bytes, to the log."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        with self._log.open("a") as file:
            file.write(f"{pages * resource.getpagesize()}\n")


PEAKS: dict[str, Callable[[], Figures]] = {
    "imports": partial(peak, sys.executable, "-c", "import tensorflow, keras"),
    "tutorial": partial(peak, *python("benchmarks.peers", "tutorial")),
    "run": partial(peak, VAE_RUN, "dataset=fashion", "epochs=1", "hydra.run.dir={folder}/run"),
}
TITLES = {
    "imports": "`import tensorflow, keras`",
    "tutorial": "the tutorial's loop, a few steps",
    "run": "`vae-run dataset=fashion epochs=1`, with all figures",
}


if __name__ == "__main__":
    main()
