"""What `vae-run` reaches of its bare compiled step: `python -m benchmarks.whole`.

`vae-run dataset=fashion` as it is: bars, logs, TensorBoard, metrics, evaluation, figures every five epochs and at the
end, exported models. Its images a second are over everything from the end of the first step to the end of the run,
without the evaluation's own forward passes. The bare step, `benchmarks.peers ours`, is measured before and after each.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peers import Setting
from benchmarks.rounds import Contestant, Figures, python, ratios, show, spread

TRAINING_IMAGES = 60_000
BARE = Contestant("bare step", python("benchmarks.peers", "ours", *Setting(steps=200, warmup=20).options()))
OUTSIDE = ("preparation", "first_step", "evaluation")


def main() -> None:
    """Measure in rounds and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how many runs (3)")
    parser.add_argument("--epochs", type=int, default=10, help="epochs of a run (10)")
    arguments = parser.parse_args()
    bare, runs = [], []
    before = BARE.run()["images_per_second"]
    for _ in range(arguments.rounds):
        runs.append(run(arguments.epochs))
        after = BARE.run()["images_per_second"]
        bare.append(statistics.mean([before, after]))
        before = after
        print(f"bare {bare[-1]:,.0f}, {runs[-1]}", file=sys.stderr, flush=True)
    rows = [
        [title, spread(speeds, ",.0f"), f"{spread([100 * r for r in ratios(speeds, bare)], '.1f')} %"]
        for title, speeds in (
            ("bare compiled step", bare),
            ("the run, while it trains", [r["training"] for r in runs]),
            ("the run, until it ends", [r["whole"] for r in runs]),
        )
    ]
    title = f"`vae-run dataset=fashion epochs={arguments.epochs}`, median of {arguments.rounds} (lowest–highest)"
    show(title, ["what", "images/s", "of the bare step"], rows)


def run(epochs: int) -> Figures:
    """Return the images a second of one run: in the calls of the compiled loop, and over everything but evaluation.

    Raises:
        SystemExit: the run failed; its error output is shown.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = ["vae-run", "dataset=fashion", f"epochs={epochs}", f"hydra.run.dir={folder}/run"]
        command[0] = str(Path(sys.executable).with_name(command[0]))
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode != 0:
            sys.exit(result.stderr)
        info = json.loads(Path(folder, "run", "run.json").read_text())
    timings, images = info["timings"], epochs * TRAINING_IMAGES
    everything = info["seconds"] - sum(timings[what] for what in OUTSIDE)
    return {"training": images / timings["training"], "whole": images / everything}


if __name__ == "__main__":
    main()
