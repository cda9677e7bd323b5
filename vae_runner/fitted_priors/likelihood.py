"""Networks trained by maximum likelihood, with early stopping."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from vae_runner.fitted_priors.base import Report, Space, Values

LEARNING_RATE = 1e-3
ROUND_STEPS = 250  # or those of an epoch, where these are fewer
MAX_ROUNDS = 200
PATIENCE = 10  # rounds in which held-out values do not become more likely
SCORED = 256  # values at once, or fewer large ones
SEED = 0


def maximize_likelihood(
    network: keras.layers.Layer,
    log_prob: Callable[[tf.Tensor], tf.Tensor],
    space: Space,
    values: Values,
    held_out: Values,
    report: Report,
    batch: int,
) -> None:
    """Train a network until `held_out` values do not become more likely, and leave it as it was when they were most.

    `log_prob` returns the log-density `[n]` of values `[n, …]`, with the network as it is. A step has `batch` values,
    or fewer where they are large.
    """
    optimizer = keras.optimizers.Adam(LEARNING_RATE)
    weights = network.trainable_variables
    optimizer.build(weights)
    fitted, others = tf.constant(values), tf.data.Dataset.from_tensor_slices(held_out).batch(space.at_once(SCORED))
    batch = min(space.at_once(batch), len(values))
    steps = min(len(values) // batch, ROUND_STEPS)

    def step(number: tf.Tensor, order: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            loss = -tf.reduce_mean(log_prob(tf.gather(fitted, order[number])))
        gradients = tape.gradient(loss, [weight.value for weight in weights])
        # An embedding's gradient names a row as often as it was read; squares are to be of its sum.
        optimizer.apply([tf.convert_to_tensor(gradient) for gradient in gradients], weights)
        return number + 1, order

    @tf.function(autograph=False)
    def train(order: tf.Tensor) -> None:
        tf.while_loop(lambda number, _: number < steps, step, (tf.constant(0), order))

    compiled = tf.function(log_prob, reduce_retracing=True, autograph=False)

    def score() -> float:
        return float(np.concatenate([compiled(part).numpy() for part in others]).mean(dtype=np.float64))

    generator = np.random.default_rng(SEED)
    best, best_score, best_round = network.get_weights(), score(), 0
    for number in range(1, MAX_ROUNDS + 1):
        report((number - 1) / MAX_ROUNDS)
        order = generator.permutation(len(values))[: steps * batch]
        train(tf.constant(order.reshape(steps, batch)))
        if (now := score()) > best_score:
            best, best_score, best_round = network.get_weights(), now, number
        elif number >= best_round + PATIENCE:
            break
    report(1.0)
    network.set_weights(best)
