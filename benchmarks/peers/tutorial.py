"""The tutorial's loop: two tapes, an optimizer for each network, float32 images shuffled and batched by tf.data.

After "Variational Autoencoder in TensorFlow" (learnopencv.com), whose network is vae-runner's default for 28×28 images.
"""

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


def measure(images: np.ndarray, setting: Setting) -> float:
    """Train on images `[count, 28, 28, 1]`, and return images a second."""
    encode, decode = encoder(), decoder()
    encoder_optimizer = keras.optimizers.Adam(LEARNING_RATE)
    decoder_optimizer = keras.optimizers.Adam(LEARNING_RATE)
    floats = images.astype(np.float32) / 255.0
    dataset = tf.data.Dataset.from_tensor_slices(floats).shuffle(60000).batch(setting.batch_size, drop_remainder=True)

    @tf.function
    def train_step(batch: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as encoder_tape, tf.GradientTape() as decoder_tape:
            mean, log_var = encode(batch, training=True)
            z = mean + tf.exp(log_var / 2) * tf.random.normal(tf.shape(mean))
            loss = tf.reduce_sum(losses(batch, decode(z, training=True), mean, log_var))
        for tape, model, optimizer in (
            (encoder_tape, encode, encoder_optimizer),
            (decoder_tape, decode, decoder_optimizer),
        ):
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss

    batches = iter(dataset.repeat())

    def take(steps: int) -> None:
        for _ in range(steps):
            loss = train_step(next(batches))
        loss.numpy()

    return timed(take, setting)
