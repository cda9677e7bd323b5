"""Distributions on the unit sphere: points of norm 1 in m coordinates."""

import math
from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.base import Noise
from vae_runner.distributions.gamma import beta_sample


@dataclass(frozen=True)
class UniformOnSphere:
    """The uniform distribution on the unit sphere, whose points have `coordinates`: the same for every image."""

    coordinates: int

    @property
    def mean(self) -> tf.Tensor:
        """Return the centre, `[1, coordinates]`, which is not on the sphere."""
        return tf.zeros([1, self.coordinates])

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return normal draws divided by their norms, `[images, coordinates]`."""
        return tf.math.l2_normalize(noise.normal([self.coordinates]), axis=-1)

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the negative logarithm of the sphere's area: `[batch]`, in nats."""
        return tf.fill(tf.shape(value)[:1], -self.log_area)

    def entropy(self) -> tf.Tensor:
        """Return the logarithm of the sphere's area: `[1]`, in nats."""
        return tf.constant([self.log_area])

    @property
    def log_area(self) -> float:
        """Return log(2 π^(m/2) / Γ(m/2)), m the number of coordinates."""
        half = self.coordinates / 2
        return math.log(2) + half * math.log(math.pi) - math.lgamma(half)


@dataclass(frozen=True)
class PowerSpherical:
    """The density ∝ (1 + directionᵀ z)^concentration on the unit sphere (De Cao & Aziz, 2020)."""

    direction: tf.Tensor  # float32 [batch, coordinates], of norm 1
    concentration: tf.Tensor  # float32 [batch], positive

    @property
    def mean(self) -> tf.Tensor:
        """Return the point of the sphere in the mean's direction: where the density is largest."""
        return self.direction

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return draws: differentiable (algorithm 1)."""
        coordinates = self.direction.shape[1]
        alpha, beta = self._beta_parameters()
        along = 2 * beta_sample(alpha, beta + tf.zeros_like(alpha), noise) - 1
        across = tf.math.l2_normalize(noise.normal([coordinates - 1]), axis=-1)
        radius = tf.sqrt(tf.maximum(1 - tf.square(along), 1e-12))
        around_first_axis = tf.concat([along[:, tf.newaxis], radius[:, tf.newaxis] * across], axis=1)
        # A Householder reflection takes the first axis to the direction.
        normal = tf.eye(coordinates)[0] - self.direction
        normal = tf.math.l2_normalize(normal, axis=-1, epsilon=1e-12)
        return around_first_axis - 2 * tf.reduce_sum(around_first_axis * normal, axis=1, keepdims=True) * normal

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return concentration · log(1 + directionᵀ value) − the log normaliser (equation 7): `[batch]`, in nats."""
        cosine = tf.reduce_sum(self.direction * value, axis=1)
        return self.concentration * tf.math.log1p(tf.maximum(cosine, -1 + 1e-6)) - self._log_normalizer()

    def entropy(self) -> tf.Tensor:
        """Return log normaliser − concentration · (log 2 + ψ(α) − ψ(α + β)) (equation 13): `[batch]`, in nats."""
        alpha, beta = self._beta_parameters()
        expected = math.log(2) + tf.math.digamma(alpha) - tf.math.digamma(alpha + beta)
        return self._log_normalizer() - self.concentration * expected

    def _beta_parameters(self) -> tuple[tf.Tensor, float]:
        """Return α, `[batch]`, and β of the Beta distribution that (1 + directionᵀ z) / 2 has."""
        beta = (self.direction.shape[1] - 1) / 2
        return beta + self.concentration, beta

    def _log_normalizer(self) -> tf.Tensor:
        """Return the logarithm of the integral of (1 + directionᵀ z)^concentration over the sphere, `[batch]`."""
        alpha, beta = self._beta_parameters()
        log_gammas = tf.math.lgamma(alpha) - tf.math.lgamma(alpha + beta)
        return (alpha + beta) * math.log(2) + log_gammas + beta * math.log(math.pi)
