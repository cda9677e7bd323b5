"""Invertible maps, and the distribution that one makes of another."""

import tensorflow as tf

from vae_runner.distributions.base import Distribution, Noise


class Flow:
    """An invertible map of latents `[batch, latent]`."""

    def forward(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the image z′ of z, both `[batch, latent]`, and log|det ∂z′/∂z| there, `[batch]`."""
        raise NotImplementedError

    def inverse(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the point that the map takes to z, both `[batch, latent]`, and `forward`'s log|det| there, `[batch]`.

        Raises:
            NotImplementedError: the map has no inverse in closed form.
        """
        raise NotImplementedError(f"{type(self).__name__} has no inverse in closed form")


class Transformed:
    """The distribution of z = flow(z₀) for z₀ drawn from a base distribution q₀ (Rezende & Mohamed, 2015).

    log q(z) = log q₀(z₀) − log|det ∂z/∂z₀|. It keeps its last draw together with the draw's log-density, which needs no
    inverse of the flow.
    """

    def __init__(self, base: Distribution, flow: Flow) -> None:
        self._base, self._flow = base, flow
        self._drawn: tuple[tf.Tensor, tf.Tensor] | None = None

    @property
    def mean(self) -> tf.Tensor:
        """Return where the flow takes the base's mean. That is not the mean of the draws, but what embeddings show."""
        return self._flow.forward(self._base.mean)[0]

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return where the flow takes draws of the base: differentiable."""
        start = self._base.sample(noise)
        z, log_det = self._flow.forward(start)
        self._drawn = z, self._base.log_prob(start) - log_det
        return z

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-density of `value` `[batch, latent]`: `[batch]`, in nats.

        Raises:
            NotImplementedError: `value` is not the tensor that `sample` returned last, and the flow has no inverse.
        """
        if self._drawn is not None and value is self._drawn[0]:
            return self._drawn[1]
        start, log_det = self._flow.inverse(value)
        return self._base.log_prob(start) - log_det
