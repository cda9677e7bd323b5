"""The same model through Keras's `fit`, after keras.io's "Variational AutoEncoder": its own `train_step`."""

import keras
import numpy as np
import tensorflow as tf

from benchmarks.peers import LEARNING_RATE, Setting, Stopwatch, tutorial


class Vae(keras.Model):
    """Encoder and decoder, trained together."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = tutorial.encoder()
        self.decoder = tutorial.decoder()
        self.loss_tracker = keras.metrics.Mean(name="loss")

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Return the metrics that Keras resets at the beginning of an epoch."""
        return [self.loss_tracker]

    def train_step(self, batch: tf.Tensor) -> dict[str, tf.Tensor]:
        """Take one optimizer step on images `[batch, 28, 28, 1]`, and return the mean loss so far."""
        with tf.GradientTape() as tape:
            mean, log_var = self.encoder(batch, training=True)
            z = mean + tf.exp(log_var / 2) * tf.random.normal(tf.shape(mean))
            loss = tf.reduce_mean(tutorial.losses(batch, self.decoder(z, training=True), mean, log_var))
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        self.loss_tracker.update_state(loss)
        return {"loss": self.loss_tracker.result()}


def measure(images: np.ndarray, setting: Setting) -> float:
    """Train on images `[count, 28, 28, 1]`, and return images a second."""
    vae = Vae()
    vae.compile(keras.optimizers.Adam(LEARNING_RATE))
    floats = images.astype(np.float32) / 255.0
    dataset = tf.data.Dataset.from_tensor_slices(floats).shuffle(60000).batch(setting.batch_size, drop_remainder=True)
    dataset = dataset.repeat().prefetch(tf.data.AUTOTUNE)
    stopwatch = Stopwatch(setting)
    step_done = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: stopwatch.step_done())
    vae.fit(dataset, steps_per_epoch=setting.warmup + setting.steps, verbose=0, callbacks=[step_done])
    return stopwatch.images_per_second
