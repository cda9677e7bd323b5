"""How long a command takes before it trains: `python -m benchmarks.startup`.

The commands are timed as a user runs them, each in a process of its own, next to what they are built on: a bare Hydra
command, and the import of TensorFlow and Keras. The first training step is that of `vae-run dataset=fashion`, which is
then left to finish its first epoch.
"""

import argparse
import csv
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.rounds import Contestant, Figures, interleave, python, ratios, show, spread, values

VAE_RUN = str(Path(sys.executable).with_name("vae-run"))
SWEEP_RUNS = 8
SWEEP_EPOCHS = 2
BARE_HYDRA = """
import hydra

@hydra.main(config_path=".", config_name="config", version_base="1.3")
def main(config):
    pass

main()
"""


def main() -> None:
    """Measure in rounds and show the table; with a name, measure that once and print its figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("contestant", nargs="?", choices=CONTESTANTS, help="what to measure alone, once")
    parser.add_argument("--rounds", type=int, default=5, help="how often to measure each")
    arguments = parser.parse_args()
    if arguments.contestant:
        print(json.dumps(CONTESTANTS[arguments.contestant]()))
        return
    contestants = [Contestant(name, python("benchmarks.startup", name)) for name in CONTESTANTS]
    results = interleave(contestants, arguments.rounds)
    seconds = {name: values(results, name, "seconds") for name in CONTESTANTS}
    rows = [[TITLES[name], spread(seconds[name]), _against(name, seconds)] for name in TITLES]
    show(f"Start-up, seconds: median of {arguments.rounds} rounds (lowest–highest)", ["what", "seconds", "of"], rows)


def _against(name: str, seconds: dict[str, list[float]]) -> str:
    if name not in BUILT_ON:
        return ""
    return f"{spread(ratios(seconds[name], seconds[BUILT_ON[name]]))} × {TITLES[BUILT_ON[name]]}"


# --- what is measured ---------------------------------------------------------------------------------------------


def command(*words: str) -> Callable[[], Figures]:
    """Return a measurement that times a command from its start to its end."""
    return lambda: {"seconds": _seconds(words)}


def bare_hydra() -> Figures:
    """Time `--cfg job` of a command that is Hydra, one key, and nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "config.yaml").write_text("latent: 2\n")
        script = Path(folder, "main.py")
        script.write_text(BARE_HYDRA)
        return {"seconds": _seconds([sys.executable, str(script), "--cfg", "job"])}


def first_run_step() -> Figures:
    """Time the first step of the first of all runs, which also compiles the custom operations."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ["XDG_CACHE_HOME"] = cache
        return first_step()


def first_step() -> Figures:
    """Time a run from the command to the end of its first training step, and return the seconds of each part, too."""
    python_itself = _seconds([sys.executable, "-c", "import vae_runner"])  # the run counts from there
    with tempfile.TemporaryDirectory() as folder:
        _seconds([VAE_RUN, "dataset=fashion", "epochs=1", "figures=none", f"hydra.run.dir={folder}/run"])
        timings = json.loads(Path(folder, "run", "run.json").read_text())["timings"]
    parts = {"imports": python_itself + timings["earlier"]}
    parts |= {name: timings[name] for name in ("preparation", "first_step")}
    return {"seconds": sum(parts.values()), **parts}


def sweep_run() -> Figures:
    """Time what a further run of a sweep takes beyond its steps and evaluations, once those are compiled."""
    with tempfile.TemporaryDirectory() as folder:
        seeds = ",".join(map(str, range(SWEEP_RUNS)))
        arguments = ["-m", "dataset=digits", f"epochs={SWEEP_EPOCHS}", f"seed={seeds}", f"hydra.sweep.dir={folder}"]
        _seconds([VAE_RUN, *arguments])
        began = {
            file.parent: json.loads(file.read_text())["timings"]["earlier"] for file in Path(folder).glob("*/run.json")
        }
        runs = sorted(began, key=began.__getitem__)
        starts = [began[run] for run in runs]
        whole = [after - before for before, after in itertools.pairwise(starts)]
        trained = [SWEEP_EPOCHS * _last_epoch(run) for run in runs[:-1]]
    # The first run is left out, because it imports, traces and compiles.
    beyond = [a - b for a, b in zip(whole[1:], trained[1:], strict=True)]
    return {"seconds": statistics.median(beyond), "whole": statistics.median(whole[1:])}


def _last_epoch(run: Path) -> float:
    with (run / "metrics.csv").open(newline="") as file:
        return float(list(csv.DictReader(file))[-1]["seconds"])


def _seconds(words: Sequence[str]) -> float:
    start = time.perf_counter()
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - start
    if result.returncode != 0:
        sys.exit(result.stderr)
    return seconds


CONTESTANTS: dict[str, Callable[[], Figures]] = {
    "help": command(VAE_RUN, "--help"),
    "config": command(VAE_RUN, "--cfg", "job"),
    "bare_hydra": bare_hydra,
    "import_tensorflow": command(sys.executable, "-c", "import tensorflow"),
    "import_keras": command(sys.executable, "-c", "import tensorflow, keras"),
    "first_step": first_step,
    "first_run_step": first_run_step,
    "sweep_run": sweep_run,
}
TITLES = {
    "help": "`vae-run --help`",
    "config": "`vae-run --cfg job`",
    "bare_hydra": "a bare Hydra command's `--cfg job`",
    "import_tensorflow": "`import tensorflow`",
    "import_keras": "`import tensorflow, keras`",
    "first_step": "`vae-run dataset=fashion`, to the end of the first step",
    "first_run_step": "the same in the first of all runs, which compiles the custom operations",
    "sweep_run": f"a further run of `vae-run -m dataset=digits epochs={SWEEP_EPOCHS}`, beyond its own training",
}
BUILT_ON = {"config": "bare_hydra", "first_step": "import_keras", "first_run_step": "import_keras"}


if __name__ == "__main__":
    main()
