"""Mixtures that are the same for every image."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import tensorflow as tf

from vae_runner.distributions.base import Distribution, Noise
from vae_runner.distributions.gaussian import LOG_2_PI


@dataclass(frozen=True)
class _Weighed:
    """Components with weights and means."""

    logits: tf.Tensor  # float32 [components]; their softmax are the weights
    means: tf.Tensor  # float32 [components, dimensions]

    @property
    def mean(self) -> tf.Tensor:
        """Return the mean of all components, `[1, dimensions]`."""
        return tf.reduce_sum(tf.nn.softmax(self.logits)[:, tf.newaxis] * self.means, axis=0, keepdims=True)


@dataclass(frozen=True)
class GaussianMixture(_Weighed):
    """Σ weight · N(mean, diag(exp(log_var))) over components."""

    log_vars: tf.Tensor  # float32 [components, dimensions]

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return draws `[images, dimensions]`, differentiable with respect to means and variances only."""
        chosen = _chosen(self.logits, noise)
        means, log_vars = tf.gather(self.means, chosen), tf.gather(self.log_vars, chosen)
        return means + tf.exp(log_vars / 2) * noise.normal(self.means.shape[1:])

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return log Σ weight · N(value): `[batch]`, in nats."""
        return tf.reduce_logsumexp(tf.nn.log_softmax(self.logits) + self.component_log_prob(value), axis=1)

    def component_log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-density of `value` `[batch, dimensions]` in each component: `[batch, components]`, in nats."""
        squares = tf.math.squared_difference(value[:, tf.newaxis], self.means) * tf.exp(-self.log_vars)
        return -0.5 * tf.reduce_sum(LOG_2_PI + self.log_vars + squares, axis=2)


@dataclass(frozen=True)
class FullGaussianMixture(_Weighed):
    """Σ weight · N(mean, scale scaleᵀ) over components."""

    scales: tf.Tensor  # float32 [components, dimensions, dimensions]: lower triangular, with a positive diagonal

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return draws `[images, dimensions]`, differentiable with respect to means and scales only."""
        chosen = _chosen(self.logits, noise)
        normal = noise.normal(self.means.shape[1:])
        # A component at a time: a copy of its scale for each draw would take too much memory.
        draws = [
            tf.where((chosen == number)[:, tf.newaxis], mean + tf.matmul(normal, scale, transpose_b=True), 0.0)
            for number, (mean, scale) in enumerate(self._components)
        ]
        return tf.add_n(draws)

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return log Σ weight · N(value): `[batch]`, in nats."""
        log_probs = []
        for mean, scale in self._components:
            whitened = tf.linalg.triangular_solve(scale, tf.transpose(value - mean))
            squares = tf.reduce_sum(LOG_2_PI + tf.square(whitened), axis=0)
            log_probs.append(-0.5 * squares - tf.reduce_sum(tf.math.log(tf.linalg.diag_part(scale))))
        return tf.reduce_logsumexp(tf.nn.log_softmax(self.logits) + tf.stack(log_probs, axis=1), axis=1)

    @property
    def _components(self) -> list[tuple[tf.Tensor, tf.Tensor]]:
        return list(zip(tf.unstack(self.means), tf.unstack(self.scales), strict=True))


@dataclass(frozen=True)
class EqualMixture:
    """1/M · Σ q_m over M distributions that `make` makes of their parameters."""

    make: Callable[[Mapping[str, tf.Tensor]], Distribution]
    parameters: Mapping[str, tf.Tensor]  # each float32 [components, …]

    @property
    def mean(self) -> tf.Tensor:
        """Return the mean of the components' means, `[1, dimensions]`."""
        return tf.reduce_mean(self.make(self.parameters).mean, axis=0, keepdims=True)

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return draws `[images, dimensions]`, differentiable with respect to the parameters."""
        chosen = tf.cast(noise.uniform([1])[:, 0] * self._components, tf.int32)
        # Rounding may bring the largest number in [0, 1) to the number of components.
        chosen = tf.minimum(chosen, self._components - 1)
        return self.make({name: tf.gather(value, chosen) for name, value in self.parameters.items()}).sample(noise)

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return log 1/M · Σ q_m(value): `[batch]`, in nats, from the density of each value in each component."""
        repeated = tf.repeat(value, self._components, axis=0)
        parameters = {
            name: tf.tile(given, [tf.shape(value)[0], *[1] * (given.shape.rank - 1)])
            for name, given in self.parameters.items()
        }
        log_probs = tf.reshape(self.make(parameters).log_prob(repeated), [-1, self._components])
        return tf.reduce_logsumexp(log_probs, axis=1) - math.log(self._components)

    @property
    def _components(self) -> int:
        return int(next(iter(self.parameters.values())).shape[0])


def _chosen(logits: tf.Tensor, noise: Noise) -> tf.Tensor:
    """Return a draw of a component's index, int32 `[images]`."""
    below = tf.cumsum(tf.nn.softmax(logits), exclusive=True)
    return tf.reduce_sum(tf.cast(noise.uniform([1]) >= below, tf.int32), axis=1) - 1
