"""Training speed compared with the alternatives: `python -m benchmarks.training`.

Fashion-MNIST, the tutorial's network. Every contestant is a process of its own; see `benchmarks/peers`. Those of
PyTorch need `pip install -e '.[bench]'`.
"""

import importlib.util
import os
import platform
import statistics
import subprocess
import sys

from benchmarks.peers import NAMES, Setting, parser
from benchmarks.rounds import Contestant, Results, interleave, python, ratios, show, spread, values

FIGURE = "images_per_second"


def main() -> None:
    """Measure the contestants, and print the table."""
    arguments = parser(__doc__)
    arguments.add_argument("--rounds", type=int, default=5, help="how often each contestant runs")
    arguments.add_argument("--only", nargs="+", choices=list(NAMES), default=list(NAMES), help="these contestants")
    options = vars(arguments.parse_args())
    rounds, only = options.pop("rounds"), ["ours", *(name for name in options.pop("only") if name != "ours")]
    setting = Setting(**options)
    if setting.device == "gpu" and not has_gpu():
        sys.exit("benchmarks.training: TensorFlow finds no GPU on this machine: nothing was measured")
    missing = [name for name in only if not available(name)]
    for name in missing:
        print(f"not measured: {NAMES[name]} (pip install -e '.[bench]')", file=sys.stderr)

    contestants = [
        Contestant(name, python("benchmarks.peers", name, *setting.options())) for name in only if name not in missing
    ]
    print_table(interleave(contestants, rounds), setting, rounds)


def available(name: str) -> bool:
    """Return whether the libraries that a contestant needs are installed."""
    needed = {"torch_eager": ["torch"], "torch_compile": ["torch"], "pythae_trainer": ["torch", "pythae"]}
    return all(importlib.util.find_spec(module) for module in needed.get(name, []))


def has_gpu() -> bool:
    """Return whether TensorFlow finds a GPU; ask in another process, so that this one holds no GPU memory."""
    ask = "import sys, tensorflow as tf; sys.exit(not tf.config.list_physical_devices('GPU'))"
    return subprocess.run([sys.executable, "-c", ask], capture_output=True, check=False).returncode == 0


def print_table(results: Results, setting: Setting, rounds: int) -> None:
    """Print absolute speeds, and ours as a multiple of each."""
    ours = values(results, "ours", FIGURE)
    rows = []
    for name in results:
        speeds = values(results, name, FIGURE)
        step = 1000 * setting.batch_size / statistics.median(speeds)
        relation = "" if name == "ours" else f"{spread(ratios(ours, speeds))} ×"
        rows.append([NAMES[name], f"{statistics.median(speeds):,.0f}", f"{step:.1f}", relation])
    show(
        f"Training on {setting.device}, batch {setting.batch_size}, float32; {os.cpu_count()} cores, "
        f"{platform.machine()}; median of {rounds} rounds (lowest–highest ratio)",
        ["contestant", "images/s", "ms a step", "vae-runner to it"],
        rows,
    )


if __name__ == "__main__":
    main()
