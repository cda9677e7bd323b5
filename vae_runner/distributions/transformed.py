"""What an invertible map makes of a distribution."""

import tensorflow as tf

from vae_runner.distributions.base import Distribution, Noise


class Flow:
    """An invertible map of latents `[batch, latent]`."""

    def forward(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return where z `[batch, latent]` goes, and log|det ∂z′/∂z| there, `[batch]`."""
        raise NotImplementedError

    def inverse(self, z: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return what goes to z `[batch, latent]`, and `forward`'s log|det| there, `[batch]`.

        Raises:
            NotImplementedError: the map has no inverse in closed form.
        """
        raise NotImplementedError(f"{type(self).__name__} has no inverse in closed form")


class Transformed:
    """The distribution of flow(z₀) for z₀ of a base: log q(z) = log q₀(z₀) − log|det ∂z/∂z₀| (Rezende & Mohamed, 2015).

    It keeps its last draw, of which it knows z₀: the log-density there needs no inverse.
    """

    def __init__(self, base: Distribution, flow: Flow) -> None:
        self._base, self._flow = base, flow
        self._drawn: tuple[tf.Tensor, tf.Tensor] | None = None

    @property
    def mean(self) -> tf.Tensor:
        """Return where the flow takes the base's mean: what is shown as the embedding, not the mean of the draws."""
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
