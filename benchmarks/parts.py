"""What each posterior, prior, likelihood and loss adds to a step: `python -m benchmarks.parts`.

Fashion-MNIST, the tutorial's network with 16 latent dimensions. In one process each takes turns with the default:
`posterior=gaussian prior=normal likelihood=gaussian loss=vae`. *Arithmetic* is that of the matrix products and
convolutions of both networks, of which importance weighting passes the decoder K times, and pseudo-inputs the encoder.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from benchmarks.methods import LATENT
from benchmarks.peers import Setting
from benchmarks.peers.__main__ import images
from benchmarks.peers.ours import prepare, taker
from benchmarks.rounds import Contestant, python, show
from vae_runner.config import registry
from vae_runner.models.summary import forward_flops
from vae_runner.schema import register_schemas

DEFAULTS = {"posterior": "gaussian", "prior": "normal", "likelihood": "gaussian", "loss": "vae"}
BATCH = Setting.batch_size
TURNS, WARMUP, STEPS = 5, 6, 12
PSEUDO_INPUTS, SAMPLES = 100, 5
BESIDES = {  # what some parts are measured with
    "posterior=power_spherical": ("prior=sphere",),
    "prior=sphere": ("posterior=power_spherical",),
    "posterior=point": ("loss=ae",),
    "prior=vamp": (f"prior.pseudo_inputs={PSEUDO_INPUTS}",),
    "loss=iwae": (f"loss.samples={SAMPLES}",),
    "loss=renyi": (f"loss.samples={SAMPLES}",),
    "posterior=vq": ("prior=categorical", "loss=vq"),
    "posterior=fsq": ("prior=categorical", "loss=ae", "posterior.levels=[3,3,3,3,3,3,3,3,3,3,3,3]", "latent=12"),
    "posterior=gumbel": ("prior=categorical",),
    "prior=categorical": ("posterior=gumbel",),
    "prior=learned_categorical": ("posterior=gumbel",),
    "loss=vq": ("prior=categorical", "posterior=vq"),
    "loss=vq_gan": ("prior=categorical", "posterior=vq"),
    "loss=vae_gan": ("likelihood=mse",),
}
NEEDS_LABELS = "class_conditional"  # a prior; the images here have none
# How often the encoder and the decoder are passed in a step, where it is not once.
PASSES = {"loss=iwae": (1, SAMPLES), "loss=renyi": (1, SAMPLES), "prior=vamp": (1 + PSEUDO_INPUTS / BATCH, 1)}


def main() -> None:
    """Measure every part, each in a process of its own, and print the table; or one part in this process."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="+", metavar="GROUP=NAME", help="these parts")
    arguments.add_argument("--here", metavar="GROUP=NAME", help="measure this part in this process; prints JSON")
    options = arguments.parse_args()
    register_schemas()
    if options.here:
        print(json.dumps(measure(options.here, images())))
        return
    rows = []
    for part in options.only or parts():
        figures = Contestant(part, python("benchmarks.parts", "--here", part)).run()
        print(part, figures, file=sys.stderr, flush=True)
        time_ratio, flop_ratio = figures["time"], figures["arithmetic"]
        cells = [
            f"{figures['ms']:.1f}",
            f"{time_ratio:.2f}",
            f"{flop_ratio:.2f}",
            f"{time_ratio / flop_ratio - 1:+.0%}",
        ]
        rows.append([f"`{part}`", *cells])
    show(
        f"Batch {BATCH}, float32, {LATENT} latent dimensions; {os.cpu_count()} cores; median of {TURNS} turns",
        ["part", "ms a step", "× default's time", "× default's arithmetic", "beyond it"],
        rows,
    )


def parts() -> list[str]:
    """Return every choice of the groups but the defaults, and what cannot be measured here."""
    components = [component for group in DEFAULTS for component in registry.components(group)]
    return [f"{c.group}={c.name}" for c in components if c.name not in (DEFAULTS[c.group], NEEDS_LABELS)]


def measure(part: str, images: np.ndarray) -> dict[str, float]:
    """Return the milliseconds of a step with a part, and its time and arithmetic as multiples of the default's."""
    takers, flops = [], []
    for words in ((part, *BESIDES.get(part, ())), ()):
        train, inner, autoencoder = prepare(images, Setting(), [f"latent={LATENT}", "likelihood=gaussian", *words])
        take = taker(train, inner)
        take(WARMUP)
        takers.append(partial(seconds, take))
        passes = PASSES.get(part, (1, 1)) if words else (1, 1)
        networks = (autoencoder.encoder, autoencoder.decoder)
        flops.append(sum(n * sum(map(forward_flops, model.layers)) for n, model in zip(passes, networks, strict=True)))
    turns = np.array([[take() for take in takers] for _ in range(TURNS)])
    return {
        "ms": 1000 * statistics.median(turns[:, 0]) / STEPS,
        "time": statistics.median(turns[:, 0] / turns[:, 1]),
        "arithmetic": flops[0] / flops[1],
    }


def seconds(take: Callable[[int], None]) -> float:
    """Return how long the timed steps take."""
    start = time.perf_counter()
    take(STEPS)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
