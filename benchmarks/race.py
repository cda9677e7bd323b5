"""How soon a recipe is where the tutorial's ten epochs end: `python -m benchmarks.race`.

`vae-run experiment=race_fashion` and the tutorial's own loop (`benchmarks/peers/tutorial.py`) train the same network
with the same loss on Fashion-MNIST, each in a process of its own, seed by seed in turns, until the mean loss of the
test images is at the target or below. Both evaluate after each epoch. Seconds count from the command, with imports,
data, tracing, evaluations and checkpoints, to the evaluation that shows the target. `vae-run` draws no figures.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.rounds import Contestant, Figures, Results, interleave, python, ratios, show, spread, values

TARGET = 35.18  # the tutorial's test loss after ten epochs
LIMIT = 20  # epochs after which the tutorial's loop gives up
SEEDS = (0, 1, 2)
TITLES = {"ours": "`vae-run experiment=race_fashion`", "tutorial": "the tutorial's loop"}
VAE_RUN = str(Path(sys.executable).with_name("vae-run"))
POLL_SECONDS = 0.05  # how exactly the moment is known


class Arrival(NamedTuple):
    """The first evaluation that shows the target."""

    epochs: int
    seconds: float  # since the command
    loss: float


def main() -> None:
    """Race over the seeds and show the table; with a name, race alone and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("contestant", nargs="?", choices=TITLES, help="who races alone, once")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS, help="of the runs (0 1 2)")
    parser.add_argument("--target", type=float, default=TARGET, help=f"test loss to reach ({TARGET})")
    arguments = parser.parse_args()
    if arguments.contestant:
        print(json.dumps(alone(arguments.contestant, arguments.seeds[0], arguments.target)))
        return
    results: Results = {name: [] for name in TITLES}
    for number, seed in enumerate(arguments.seeds):
        contestants = [
            Contestant(name, python("benchmarks.race", name, "--seeds", seed, "--target", arguments.target))
            for name in (TITLES if number % 2 == 0 else reversed(TITLES))
        ]
        for name, figures in interleave(contestants, rounds=1).items():
            results[name] += figures
    title = f"Fashion-MNIST, to a test loss of {arguments.target}; seeds {', '.join(map(str, arguments.seeds))}"
    show(title, ["what", "epochs", "test loss", "seconds", "the tutorial's to it"], rows(results))


def rows(results: Results) -> list[list[str]]:
    """Return the rows of the table: of each contestant its epochs and losses by seed, its seconds, and the ratio."""
    theirs = values(results, "tutorial", "seconds")
    return [
        [
            title,
            ", ".join(f"{epochs:.0f}" for epochs in values(results, name, "epochs")),
            ", ".join(f"{loss:.2f}" for loss in values(results, name, "loss")),
            spread(values(results, name, "seconds"), ".0f"),
            "" if name == "tutorial" else f"{spread(ratios(theirs, values(results, name, 'seconds')))} ×",
        ]
        for name, title in TITLES.items()
    ]


# --- one contestant -------------------------------------------------------------------------------------------------


def alone(name: str, seed: int, target: float) -> Figures:
    """Run one contestant, and return the epochs and seconds it takes to the target, and the test loss there."""
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        commands = {
            "ours": [VAE_RUN, "experiment=race_fashion", "figures=none", f"seed={seed}", f"hydra.run.dir={run}"],
            "tutorial": python("benchmarks.peers.tutorial_race", run, seed, target, LIMIT),
        }
        return arrival(commands[name], Path(run, "metrics.csv"), target)._asdict()


def arrival(command: Sequence[str], metrics: Path, target: float) -> Arrival:
    """Run a command that adds a row with its `test/loss` to this file after each epoch, and time it to the target.

    Raises:
        SystemExit: it failed, or ended without having reached the target.
    """
    start, rows, first = time.perf_counter(), [], None
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        is_over = False
        while not is_over:
            time.sleep(POLL_SECONDS)
            is_over, now = process.poll() is not None, time.perf_counter()
            if first is None:  # The command is left to its end also after that, as a user leaves it.
                rows = rows_of(metrics)
                first = next((Arrival(e, now - start, loss) for e, loss in rows if loss <= target), None)
        output.seek(0)
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{output.read().decode()[-4000:]}")
    if first is None:
        sys.exit(f"{' '.join(command)} has not come to {target}: test losses {[round(loss, 2) for _, loss in rows]}")
    return first


def rows_of(metrics: Path) -> list[tuple[int, float]]:
    """Return epoch and test loss of the rows that are written so far, which may be none."""
    lines = metrics.read_text().splitlines(keepends=True) if metrics.exists() else []
    return [(int(row["epoch"]), float(row["test/loss"])) for row in csv.DictReader(s for s in lines if s[-1] == "\n")]


if __name__ == "__main__":
    main()
