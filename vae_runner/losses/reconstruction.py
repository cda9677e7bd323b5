"""The loss of a plain autoencoder, and of those that keep its codes robust or sparse."""

from dataclasses import dataclass
from typing import ClassVar

import tensorflow as tf

from vae_runner.losses.base import Batch, Loss, posterior_of, reconstruction_term
from vae_runner.models.autoencoder import Autoencoder


@dataclass(frozen=True)
class Reconstruction(Loss):
    """−log p(x|z), or a pseudo-likelihood's weighted error, of the image decoded from the posterior's mean z.

    With a `noise_scale` the encoder is trained on images with Gaussian noise of that standard deviation, and the error
    is still that of the images without it (Vincent et al., 2008: denoising). `contractive_weight` weighs
    ‖∂z / ∂image‖², the squared Frobenius norm of the Jacobian (Rifai et al., 2011, equation 4), estimated along one
    random direction of z (Hutchinson). `sparsity_weight` weighs Σ |z|; or, with a `sparsity_target` ρ, Σ KL(ρ ‖ ρ̂),
    where ρ̂ is the mean over the batch of sigmoid(z) in a dimension (Ng, 2011).
    """

    reconstruction_weight: float | None = None
    noise_scale: float = 0.0
    contractive_weight: float = 0.0
    sparsity_weight: float = 0.0
    sparsity_target: float | None = None

    decodes_means: ClassVar[bool] = True

    @property
    def terms(self) -> tuple[str, ...]:
        """Return the names of its terms: `contraction` and `sparsity` only where they have a weight."""
        return ("reconstruction", *self._weights)

    @property
    def _weights(self) -> dict[str, float]:
        """Return the weights of the penalties that are switched on, by name."""
        weights = {"contraction": self.contractive_weight, "sparsity": self.sparsity_weight}
        return {name: weight for name, weight in weights.items() if weight}

    def __call__(
        self, autoencoder: Autoencoder, batch: Batch, training: bool
    ) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Return the scalar to minimise, and its terms: the reconstruction with its weight, the others without."""
        images = batch.images
        if self.noise_scale and training:
            images += self.noise_scale * batch.noise.normal(images.shape[1:])
        z = posterior_of(autoencoder, batch._replace(images=images), training).mean
        penalties = {}
        if self.contractive_weight:
            penalties["contraction"] = _contraction(autoencoder, batch._replace(images=images))
        if self.sparsity_weight:
            penalties["sparsity"] = self._sparsity(z, batch)
        likelihood = autoencoder.decode(z, batch.labels, training)
        loss = reconstruction = reconstruction_term(
            autoencoder, batch, likelihood, self.reconstruction_weight, training
        )
        for name, weight in self._weights.items():
            loss += weight * penalties[name]
        return loss, {"reconstruction": reconstruction, **penalties}

    def _sparsity(self, z: tf.Tensor, batch: Batch) -> tf.Tensor:
        """Return the penalty of codes `[images, latent]`, a scalar without its weight."""
        if self.sparsity_target is None:
            return tf.reduce_mean(tf.reduce_sum(tf.abs(z), axis=1))
        # log ρ̂ and log(1 − ρ̂) are taken from logarithms of sigmoids, which no code, however large, makes infinite.
        codes = batch.gather(z)
        on, off = _log_mean(tf.math.log_sigmoid(codes)), _log_mean(tf.math.log_sigmoid(-codes))
        rho = tf.constant(self.sparsity_target)
        entropy = rho * tf.math.log(rho) + (1 - rho) * tf.math.log1p(-rho)
        return tf.reduce_sum(entropy - rho * on - (1 - rho) * off)


def _contraction(autoencoder: Autoencoder, batch: Batch) -> tf.Tensor:
    """Return the mean over images of an estimate of ‖∂z / ∂image‖².

    The encoder is in inference: with a batch's moments an image's z would depend on the other images too, and
    `tf.nn.moments` has no right second derivative.
    """
    with tf.GradientTape() as tape:
        tape.watch(batch.images)
        z = autoencoder.encode(batch.images, batch.labels, training=False).mean
        projection = tf.reduce_sum(batch.noise.normal(z.shape[1:]) * z)
    squares = tf.square(tape.gradient(projection, batch.images))
    return tf.reduce_mean(tf.reduce_sum(squares, axis=[1, 2, 3]))


def _log_mean(logarithms: tf.Tensor) -> tf.Tensor:
    """Return log(mean of exp(logarithms) over the batch): from `[batch, latent]` to `[latent]`."""
    return tf.reduce_logsumexp(logarithms, axis=0) - tf.math.log(tf.cast(tf.shape(logarithms)[0], tf.float32))
