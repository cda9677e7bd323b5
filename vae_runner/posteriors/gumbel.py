"""Categorical variables, relaxed in training."""

from collections.abc import Callable, Mapping

import tensorflow as tf

from vae_runner.distributions.base import Distribution, Noise
from vae_runner.distributions.codes import Categorical, RelaxedCategorical
from vae_runner.posteriors.base import CodePosterior, Shape


class Gumbel(CodePosterior):
    """Categorical variables, one a latent dimension, of which the decoder is given one-hots (Jang et al., 2017).

    In training their draws are relaxed, at a temperature that falls from `temperature` to `final_temperature` in the
    first `temperature_epochs`, by the same factor in equal times; with `straight_through` they are one-hots with the
    gradient of relaxed ones. Elsewhere they are one-hots.
    """

    has_density = True
    has_density_everywhere = False  # but at one-hots

    def __init__(
        self,
        categories: int,
        temperature: float,
        final_temperature: float,
        temperature_epochs: float,
        straight_through: bool,
    ) -> None:
        self.codes = categories
        self._temperature, self._final = temperature, final_temperature
        self._epochs = temperature_epochs
        self._straight_through = straight_through

    def z_shape(self, latent: Shape) -> Shape:
        """Return the number of all categories of all variables."""
        return (*latent[:-1], latent[-1] * self.codes)

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        """Return a logit for each category of each variable."""
        return {"logits": (*latent, self.codes)}

    def positions(self, z_size: int) -> int:
        """Return how many variables a z of `z_size` numbers is."""
        return z_size // self.codes

    def embed(self, codes: tf.Tensor) -> tf.Tensor:
        """Return the one-hots of codes, int32 `[batch, positions]`, in a row: float32 `[batch, dimensions]`."""
        return tf.reshape(tf.one_hot(codes, self.codes), [-1, codes.shape[1] * self.codes])

    def one_hots(self, z: tf.Tensor) -> tf.Tensor:
        """Return the one-hots, relaxed or not, that z `[batch, dimensions]` are: `[batch, positions, codes]`."""
        return tf.reshape(z, [-1, z.shape[1] // self.codes, self.codes])

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> Categorical:
        """Return the categorical variables of a batch."""
        return Categorical(parameters["logits"])

    def fitted(
        self, distribution: Distribution, noise: Noise, epoch: tf.Tensor, gather: Callable[[tf.Tensor], tf.Tensor]
    ) -> Distribution:
        """Return the variables with relaxed draws, at the temperature of `epoch`."""
        assert isinstance(distribution, Categorical)
        done = tf.minimum(epoch / self._epochs, 1.0) if self._epochs else tf.constant(1.0)
        temperature = self._temperature * (self._final / self._temperature) ** done
        return RelaxedCategorical(distribution.logits, temperature, self._straight_through)
