"""Measure one contestant in this process: `python -m benchmarks.peers tutorial`; prints its figures as JSON."""

import importlib
import json
import os
from functools import cache
from importlib.resources import files

import numpy as np
from omegaconf import OmegaConf

from benchmarks.peers import NAMES, Setting, parser
from vae_runner.datasets import fashion
from vae_runner.datasets.dataset import Dataset


def main() -> None:
    """Train the contestant that the command line names, and print its speed."""
    arguments = parser(__doc__)
    arguments.add_argument("contestant", choices=NAMES)
    options = vars(arguments.parse_args())
    peer = importlib.import_module(f"benchmarks.peers.{options.pop('contestant')}")
    setting = Setting(**options)
    # Whole batches only: XLA would compile the step anew for a smaller last one, within the time measured.
    whole = len(images()) // setting.batch_size * setting.batch_size
    figure = peer.measure(images()[:whole], setting)
    print(json.dumps({"images_per_second": figure}))


@cache
def images() -> np.ndarray:
    """Return Fashion-MNIST's training images, uint8 `[60000, 28, 28, 1]`; download them where they are missing."""
    return np.asarray(fashion_mnist().train.images)


def fashion_mnist() -> Dataset:
    """Return Fashion-MNIST; download it where it is missing."""
    folder = os.environ.get("VAE_RUNNER_DATA", "~/.cache/vae-runner")
    url = OmegaConf.load(files("vae_runner.conf") / "dataset" / "fashion.yaml").dataset.url
    return fashion.load(root=None, data_dir=folder, url=url)


if __name__ == "__main__":
    main()
