"""How long the numbers of a trained model take: `python -m benchmarks.evaluation`.

The tutorial's network, trained on Fashion-MNIST for `--epochs`, is evaluated by the installed command: seconds of each
metric, of the whole command, and the memory that it has needed at most. Then the importance-weighted log-likelihood
beside its decoder passes alone, in one process: passes over as many latents at once, before and after, which do nothing
but decode.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from benchmarks.rounds import Figures, python, show
from vae_runner.acceleration.fuse import fuse
from vae_runner.evaluation.embeddings import batch_size_for
from vae_runner.evaluation.likelihood import FITTED_IMAGES, MAX_ROWS, log_likelihood, with_fitted_sigma
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.experiment import subject_of
from vae_runner.schema import register_schemas
from vae_runner.storage.stored_run import StoredRun

LATENTS = 20_000  # decoded before, and after, for the speed of the passes alone


def main() -> None:
    """Train, evaluate, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=1, help="epochs that the model is trained for (1)")
    parser.add_argument("--images", type=int, default=1000, help="images of the log-likelihood by itself (1000)")
    parser.add_argument("--samples", type=int, default=1000, help="importance samples of it (1000)")
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)  # a process of ours
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(decoder_share(arguments.run, arguments.images, arguments.samples)))
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder, "run")
        command("vae-run", "dataset=fashion", f"epochs={arguments.epochs}", "figures=none", f"hydra.run.dir={run}")
        seconds, megabytes = command("vae-evaluate", run)
        entries = json.loads((run / "evaluation" / "metrics.json").read_text())["metrics"]
        rows = [[name, f"{entry['seconds']:.1f}", ""] for name, entry in entries.items()]
        rows.append(["`vae-evaluate RUN`", f"{seconds:.1f}", f"{megabytes:,.0f}"])
        show("The default evaluation, Fashion-MNIST", ["metric", "seconds", "peak memory, MB"], rows)
        options = ("--run", run, "--images", arguments.images, "--samples", arguments.samples)
        result = subprocess.run(
            python("benchmarks.evaluation", *options), stdout=subprocess.PIPE, text=True, check=True
        )
    figures: Figures = json.loads(result.stdout.splitlines()[-1])
    show(
        f"The log-likelihood of {arguments.images:,} images with {arguments.samples:,} samples each",
        ["seconds", "decoder passes alone, seconds", "their share", "peak memory, MB"],
        [[f"{figures['seconds']:.0f}", f"{figures['decoding']:.0f}", f"{figures['decoding'] / figures['seconds']:.0%}",
          f"{figures['megabytes']:,.0f}"]],
    )  # fmt: skip


def command(name: str, *arguments: object) -> tuple[float, float]:
    """Run an installed command; return its seconds, and the megabytes that it has needed at most.

    Raises:
        SystemExit: it failed.
    """
    words = [str(Path(sys.executable).with_name(name)), *map(str, arguments)]
    start = time.perf_counter()
    _, status, usage = os.wait4(subprocess.Popen(words, stdout=subprocess.DEVNULL).pid, 0)
    if status != 0:
        sys.exit(f"{' '.join(words)} failed")
    return time.perf_counter() - start, usage.ru_maxrss / 1000


def decoder_share(run: Path, images: int, samples: int) -> Figures:
    """Return the seconds of a log-likelihood, those of its decoder passes alone, and this process's peak megabytes."""
    register_schemas()
    subject = subject_of(StoredRun.open_finished(run), EvaluationConfig())
    autoencoder, _ = with_fitted_sigma(subject.autoencoder, subject.images("train", FITTED_IMAGES).images)
    pixels = np.asarray(subject.images("test", images).images)
    faster = replace(autoencoder, decoder=fuse(autoencoder.decoder))
    rows = batch_size_for(autoencoder, MAX_ROWS)

    @tf.function(autograph=False)
    def error(z: tf.Tensor, images: tf.Tensor) -> tf.Tensor:
        return faster.decode(z, None).error(images)

    def seconds_of_passes() -> float:
        given = tf.zeros([rows, *autoencoder.image_shape])
        z = tf.random.stateless_normal([rows, autoencoder.latent], [0, 0])
        error(z, given).numpy()
        start = time.perf_counter()
        for _ in range(LATENTS // rows):
            error(z, given).numpy()
        return (time.perf_counter() - start) / (LATENTS // rows * rows)

    before = seconds_of_passes()
    start = time.perf_counter()
    log_likelihood(autoencoder, pixels, samples=samples, dequantize=True)
    seconds = time.perf_counter() - start
    of_one = (before + seconds_of_passes()) / 2
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000
    return {"seconds": seconds, "decoding": of_one * len(pixels) * samples, "megabytes": megabytes}


if __name__ == "__main__":
    main()
