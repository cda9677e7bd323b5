"""What the fashion network's layers cost in training, against their arithmetic: `python -m benchmarks.layers`.

The layers are fused as in a run on this machine: what is computed together is one row. The forward pass and the
gradients of inputs (but not of the images) and weights are compiled, and repeated many times in one call. Beside them
is the plain arithmetic of the convolutions and dense layers, of both, at the rate of a large float32 matrix product,
measured before and after. Normalisations and activations contain no matrix product, so only their milliseconds are
given.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from benchmarks.peers import LATENT, Setting
from benchmarks.peers.limit import matrix_product_rate
from benchmarks.rounds import show
from vae_runner.acceleration.chains import ParallelDense
from vae_runner.acceleration.fuse import fuse
from vae_runner.acceleration.fused import Fused
from vae_runner.acceleration.operations import load_for
from vae_runner.likelihoods.mse import MeanSquaredError
from vae_runner.models import conv
from vae_runner.models.summary import forward_flops
from vae_runner.posteriors.gaussian import Gaussian
from vae_runner.runtime import hardware
from vae_runner.runtime.schema import HardwareConfig

REPEATS, WINDOWS = 8, 5
LAYERS = (keras.layers.Conv2D, keras.layers.Conv2DTranspose, Fused)


def main() -> None:
    """Measure every layer, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=Setting.batch_size, help="images (128)")
    parser.add_argument("--without", action="store_true", help="without the custom operations")
    options = parser.parse_args()
    batch = options.batch_size
    config = HardwareConfig(device="cpu", custom_ops=False if options.without else "auto")
    machine = hardware.setup(config, seed=0, custom_ops=load_for(config))
    before = matrix_product_rate()
    measured = []
    for model in conv.build((28, 28, 1), LATENT, Gaussian(), MeanSquaredError()):
        for layer in fuse(model, machine.custom_ops).layers:
            if isinstance(layer, LAYERS) and not isinstance(layer, ParallelDense):
                parts = getattr(layer, "layers", [layer])
                flops = sum(forward_flops(part) for part in parts)
                measured.append((parts, flops, *measure(layer, batch)))
    rate = statistics.mean([before, matrix_product_rate()])
    rows = []
    for parts, flops, forward, backward in measured:
        limit = 1000 * flops * batch / rate
        share = f"{100 * 3 * limit / (forward + backward):.0f} %" if limit else ""
        cost = [f"{forward:.2f}", f"{backward:.2f}", f"{3 * limit:.2f}" if limit else "", share]
        rows.append([", ".join(part.name for part in parts), *cost])
    title = f"Milliseconds of {batch} images; matrix product: {rate / 1e9:.0f} GFLOP/s"
    show(title, ["layers", "forward", "gradients", "plain arithmetic", "of the product's rate"], rows)


def measure(layer: keras.layers.Layer, batch: int) -> tuple[float, float]:
    """Return the milliseconds of the forward pass, and of the gradients, in training."""
    x = tf.random.stateless_normal((batch, *layer.input.shape[1:]), [0, 0])
    dy = tf.random.stateless_normal((batch, *layer.output.shape[1:]), [0, 1])
    inputs = [] if layer.input.shape[-1] == 1 else [x]
    parts = getattr(layer, "layers", [layer])
    sources = [*inputs, *(variable.value for part in parts for variable in part.trainable_variables)]
    training = {"training": True} if layer._call_has_training_arg else {}

    def forward() -> list[tf.Tensor]:
        return [layer(x, **training)]

    def both() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(sources)
            y = layer(x, **training)
        return [y, *tape.gradient(y, sources, output_gradients=dy)]

    one, all_three = milliseconds(forward), milliseconds(both)
    return one, max(all_three - one, 0.0)


def milliseconds(work: Callable[[], list[tf.Tensor]]) -> float:
    """Return the milliseconds of one execution of `work`: the median of several compiled loops of many executions."""

    @tf.function
    def loop() -> tf.Tensor:
        total = 0.0
        for _ in tf.range(REPEATS):
            total += tf.add_n([tf.reshape(result, [-1])[0] for result in work()])
        return total

    loop()
    seconds = []
    for _ in range(WINDOWS):
        start = time.perf_counter()
        loop().numpy()
        seconds.append(time.perf_counter() - start)
    return float(1000 * np.median(seconds) / REPEATS)


if __name__ == "__main__":
    main()
