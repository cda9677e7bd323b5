"""The tutorial's loop until its test loss is low enough, for `benchmarks.race`.

`python -m benchmarks.peers.tutorial_race RUN SEED TARGET EPOCHS` writes a row to RUN/metrics.csv after each epoch, as
`vae-run` does, and ends at the target or after so many epochs.
"""

import sys
from itertools import islice
from pathlib import Path

import keras

from benchmarks.peers import Setting
from benchmarks.peers.__main__ import fashion_mnist
from benchmarks.peers.tutorial import losses_by_epoch


def main(run: str, seed: str, target: str, epochs: str) -> None:
    """Train, evaluate and write."""
    keras.utils.set_random_seed(int(seed))
    dataset = fashion_mnist()
    Path(run).mkdir()
    with Path(run, "metrics.csv").open("w") as file:
        print("epoch,test/loss", file=file, flush=True)
        losses = losses_by_epoch(dataset.train.images, dataset.test.images, Setting.batch_size)
        for epoch, loss in enumerate(islice(losses, int(epochs)), start=1):
            print(f"{epoch},{loss}", file=file, flush=True)
            if loss <= float(target):
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
