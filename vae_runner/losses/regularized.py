"""A plain autoencoder whose codes stay small and whose decoder stays smooth."""

from dataclasses import dataclass
from typing import ClassVar

import keras
import tensorflow as tf

from vae_runner.losses.base import Batch, Loss, reconstruction_term
from vae_runner.losses.spectral_norm import SpectralNorm
from vae_runner.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class Regularized(Loss):
    """reconstruction + embedding_weight · ½ ‖z‖² + a penalty of the decoder (Ghosh et al., 2020: RAE).

    The penalty is `weight_decay` · ½ ‖the decoder's kernels‖² plus `gradient_penalty` · ‖∂ image / ∂z‖², the
    squared Frobenius norm of the Jacobian, estimated along one random direction in the image (Hutchinson). With
    `spectral_norm` the decoder's kernels are divided by their largest singular value after each update.
    """

    reconstruction_weight: float | None = None
    embedding_weight: float = 1.0
    weight_decay: float = 0.0
    gradient_penalty: float = 0.0
    spectral_norm: bool = False

    decodes_means: ClassVar[bool] = True
    terms: ClassVar = ("reconstruction", "embedding", "penalty")

    def constrain(self, autoencoder: Autoencoder) -> None:
        """Set the constraint of the decoder's kernels, if there is one."""
        for kernel in _kernels(autoencoder) if self.spectral_norm else ():
            kernel.constraint = SpectralNorm()

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the scalar to minimise, and its terms: `reconstruction` and `penalty` with their weights."""
        z = autoencoder.encode(batch.images, batch.labels, training).mean
        likelihood = autoencoder.decode(z, batch.labels, training)
        penalty = tf.constant(0.0)
        if self.gradient_penalty:
            direction = batch.noise.normal(batch.images.shape[1:])
            with tf.GradientTape() as tape:
                tape.watch(z)
                # In inference: with a batch's moments an image would depend on the other images' z too, and
                # `tf.nn.moments` has no right second derivative.
                projection = tf.reduce_sum(direction * autoencoder.decode(z, batch.labels, training=False).mean)
            gradient = tape.gradient(projection, z)
            penalty += self.gradient_penalty * tf.reduce_mean(tf.reduce_sum(tf.square(gradient), axis=1))
        if self.weight_decay:
            squares = [tf.reduce_sum(tf.square(tf.cast(kernel.value, tf.float32))) for kernel in _kernels(autoencoder)]
            penalty += self.weight_decay * 0.5 * tf.add_n(squares)
        reconstruction = reconstruction_term(autoencoder, batch, likelihood, self.reconstruction_weight, training)
        embedding = 0.5 * tf.reduce_mean(tf.reduce_sum(tf.square(z), axis=1))
        loss = reconstruction + self.embedding_weight * embedding + penalty
        return loss, {"reconstruction": reconstruction, "embedding": embedding, "penalty": penalty}


def _kernels(autoencoder: Autoencoder) -> list[keras.Variable]:
    """Return the decoder's weights with two axes or more: neither biases nor the weights of normalisation."""
    return [variable for variable in autoencoder.decoder.trainable_variables if len(variable.shape) > 1]
