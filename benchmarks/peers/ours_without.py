"""vae-runner's own compiled step where there is no C++ compiler: TensorFlow's operations alone."""

import numpy as np

from benchmarks.peers import Setting, images_per_second
from benchmarks.peers.ours import prepare, taker


def measure(images: np.ndarray, setting: Setting) -> float:
    """Train on images `[count, 28, 28, 1]`, and return images a second."""
    train, inner, _ = prepare(images, setting, ["hardware.custom_ops=false"])
    return images_per_second(taker(train, inner), setting)
