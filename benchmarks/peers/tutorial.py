"""The tutorial's loop: two tapes, an optimizer for each network, float32 images shuffled and batched by tf.data.

After "Variational Autoencoder in TensorFlow" (learnopencv.com), whose network is vae-runner's default for 28×28 images.
"""

from collections.abc import Callable, Iterator
from functools import partial

import keras
import numpy as np
import tensorflow as tf

from benchmarks.peers import EPSILON, LATENT, LEARNING_RATE, MOMENTUM, RECONSTRUCTION_WEIGHT, SLOPE, Setting
from benchmarks.peers import images_per_second as timed


def encoder() -> keras.Model:
    """Build the network from images `[batch, 28, 28, 1]` to mean and log-variance, each `[batch, 2]`."""
    images = x = keras.Input((28, 28, 1))
    for filters, strides in ((32, 1), (64, 2), (64, 2), (64, 1)):
        x = keras.layers.Conv2D(filters, 3, strides, padding="same")(x)
        x = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON)(x)
        x = keras.layers.LeakyReLU(SLOPE)(x)
    x = keras.layers.Flatten()(x)
    return keras.Model(images, [keras.layers.Dense(LATENT)(x), keras.layers.Dense(LATENT)(x)])


def decoder() -> keras.Model:
    """Build the network from latents `[batch, 2]` to images `[batch, 28, 28, 1]`."""
    z = keras.Input((LATENT,))
    x = keras.layers.Reshape((7, 7, 64))(keras.layers.Dense(7 * 7 * 64)(z))
    for filters, strides in ((64, 1), (64, 2), (32, 2)):
        x = keras.layers.Conv2DTranspose(filters, 3, strides, padding="same")(x)
        x = keras.layers.BatchNormalization(momentum=MOMENTUM, epsilon=EPSILON)(x)
        x = keras.layers.LeakyReLU(SLOPE)(x)
    return keras.Model(z, keras.layers.Conv2DTranspose(1, 3, padding="same", activation="sigmoid")(x))


def losses(images: tf.Tensor, decoded: tf.Tensor, mean: tf.Tensor, log_var: tf.Tensor) -> tf.Tensor:
    """Return the loss of each image, `[batch]`: weighted mean squared error plus KL divergence."""
    error = tf.reduce_mean(tf.square(images - decoded), axis=(1, 2, 3))
    kl = -0.5 * tf.reduce_sum(1 + log_var - tf.square(mean) - tf.exp(log_var), axis=1)
    return RECONSTRUCTION_WEIGHT * error + kl


Step = Callable[[tf.Tensor], tf.Tensor]


def steps() -> tuple[Step, Step]:
    """Build the networks; return their compiled training step, and what evaluates them.

    Both take images `[batch, 28, 28, 1]`; one returns the sum of their losses, the other the loss of each, `[batch]`.
    """
    encode, decode = encoder(), decoder()
    encoder_optimizer = keras.optimizers.Adam(LEARNING_RATE)
    decoder_optimizer = keras.optimizers.Adam(LEARNING_RATE)

    def losses_of(batch: tf.Tensor, *, training: bool) -> tf.Tensor:
        mean, log_var = encode(batch, training=training)
        z = mean + tf.exp(log_var / 2) * tf.random.normal(tf.shape(mean))
        return losses(batch, decode(z, training=training), mean, log_var)

    @tf.function
    def train_step(batch: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as encoder_tape, tf.GradientTape() as decoder_tape:
            loss = tf.reduce_sum(losses_of(batch, training=True))
        for tape, model, optimizer in (
            (encoder_tape, encode, encoder_optimizer),
            (decoder_tape, decode, decoder_optimizer),
        ):
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    return train_step, tf.function(partial(losses_of, training=False))


def measure(images: np.ndarray, setting: Setting) -> float:
    """Train on images `[count, 28, 28, 1]`, and return images a second."""
    train_step, _ = steps()
    dataset = tf.data.Dataset.from_tensor_slices(floats(images)).shuffle(60000)
    batches = iter(dataset.batch(setting.batch_size, drop_remainder=True).repeat())

    def take(steps: int) -> None:
        for _ in range(steps):
            loss = train_step(next(batches))
        loss.numpy()

    return timed(take, setting)


def losses_by_epoch(train: np.ndarray, test: np.ndarray, batch_size: int) -> Iterator[float]:
    """Train on images `[count, 28, 28, 1]`, and yield the mean loss of the test images after each epoch."""
    train_step, evaluate = steps()
    train_batches = tf.data.Dataset.from_tensor_slices(floats(train)).shuffle(60000).batch(batch_size)
    test_batches = tf.data.Dataset.from_tensor_slices(floats(test)).batch(batch_size)
    while True:
        for batch in train_batches:
            train_step(batch)
        yield float(np.mean(np.concatenate([evaluate(batch) for batch in test_batches])))


def floats(images: np.ndarray) -> np.ndarray:
    """Return pixels from 0 to 1."""
    return images.astype(np.float32) / 255.0
