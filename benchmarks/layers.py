"""What each convolution of the fashion network costs, against its arithmetic: `python -m benchmarks.layers`.

Forward pass, gradient of the input and gradient of the kernel, each compiled, many times in one call; the limit is the
layer's arithmetic at the rate of a large float32 matrix product, measured before and after. The normalisations and the
activations have no matrix product: of them the milliseconds are all there is to say.
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
from vae_runner.models import conv
from vae_runner.models.layers import parts, plain
from vae_runner.models.posterior import DiagonalGaussian
from vae_runner.models.summary import forward_flops

REPEATS, WINDOWS = 8, 5
LAYERS = (keras.layers.Conv2D, keras.layers.Conv2DTranspose, keras.layers.BatchNormalization, keras.layers.LeakyReLU)


def main() -> None:
    """Measure every layer, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=int, default=Setting.batch_size, help="images (128)")
    batch = parser.parse_args().batch_size
    before = matrix_product_rate()
    autoencoder = conv.build((28, 28, 1), LATENT, DiagonalGaussian)
    measured = []
    for model in (autoencoder.encoder, autoencoder.decoder):
        as_keras = plain(model)
        for ours in parts(model):
            layer = as_keras.get_layer(ours.name)
            if isinstance(layer, LAYERS):
                measured.append((layer, *measure(ours, (batch, *layer.input.shape[1:]))))
    rate = statistics.mean([before, matrix_product_rate()])
    rows = []
    for layer, forward, backward in measured:
        limit = 1000 * forward_flops(layer) * batch / rate
        share = f"{100 * 3 * limit / (forward + backward):.0f} %" if limit else ""
        cost = [f"{forward:.2f}", f"{backward:.2f}", f"{3 * limit:.2f}" if limit else "", share]
        rows.append([layer.name, "×".join(map(str, layer.output.shape[1:])), *cost])
    title = f"Milliseconds of {batch} images; matrix product: {rate / 1e9:.0f} GFLOP/s"
    show(title, ["layer", "output", "forward", "both gradients", "limit of the three", "of the limit"], rows)


def measure(layer: keras.layers.Layer, shape: tuple[int, ...]) -> tuple[float, float]:
    """Milliseconds of the forward pass, and of the gradients of input and kernel, in training."""
    x = tf.random.stateless_normal(shape, [0, 0])
    dy = tf.random.stateless_normal(layer(x).shape, [0, 1])
    variables = [variable.value for variable in layer.trainable_variables]

    def both() -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True) if isinstance(layer, keras.layers.BatchNormalization) else layer(x)
        return [y, *tape.gradient(y, [x, *variables], output_gradients=dy)]

    def forward() -> list[tf.Tensor]:
        return [layer(x, training=True) if isinstance(layer, keras.layers.BatchNormalization) else layer(x)]

    one, all_three = milliseconds(forward), milliseconds(both)
    return one, max(all_three - one, 0.0)


def milliseconds(work: Callable[[], list[tf.Tensor]]) -> float:
    """Of one execution, in a compiled loop of many; the median of several loops."""

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
