"""A network that gives the probabilities of each code of a map from the codes before it."""

from dataclasses import dataclass
from typing import Self

import keras
import tensorflow as tf

from vae_runner.distributions.base import Noise
from vae_runner.errors import UserError
from vae_runner.fitted_priors.base import Arrays, FittedPrior, Report, Space, Values, check_arrays
from vae_runner.fitted_priors.likelihood import SEED, maximize_likelihood

WIDTH, BLOCKS, KERNEL = 64, 5, 3  # channels, residual blocks, and pixels of a convolution's kernel
BATCH = 64
MAX_CODES = 1 << 16


class MaskedConv(keras.layers.Layer):
    """Logits of the codes of a map, row by row, each a function of the codes before it (van den Oord et al., 2016).

    As in that paper there are two stacks of convolutions, so that no code before is in a blind spot: one sees the rows
    above, and the other one the codes on the left and the first stack. A convolution is masked by where its input is
    padded: shifted by a row, or by a code, in the first layer of a stack.
    """

    def __init__(self, codes: int) -> None:
        super().__init__(dtype="float32")
        self.codes = codes
        self._embedding = keras.layers.Embedding(codes, WIDTH)
        self._above = [keras.layers.Conv2D(WIDTH, (KERNEL, KERNEL)) for _ in range(BLOCKS)]
        self._left = [keras.layers.Conv2D(WIDTH, (1, KERNEL)) for _ in range(BLOCKS)]
        self._joined = [keras.layers.Dense(WIDTH) for _ in range(BLOCKS)]
        self._mixed = [keras.layers.Dense(WIDTH) for _ in range(BLOCKS)]
        self._logits = keras.layers.Dense(codes)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Create the weights for maps `[batch, height, width]` of any size."""
        self._embedding.build(input_shape)
        for block in range(BLOCKS):
            for layers in (self._above, self._left, self._joined, self._mixed):
                layers[block].build((None, None, None, WIDTH))
        self._logits.build((None, None, None, WIDTH))
        self.built = True

    def call(self, codes: tf.Tensor) -> tf.Tensor:
        """Return logits `[batch, height, width, codes]` of codes, int32 `[batch, height, width]`."""
        above = left = self._embedding(codes)
        for block in range(BLOCKS):
            first = block == 0
            seen_above = self._above[block](_padded(above if first else tf.nn.elu(above), rows=KERNEL - 1 + first))
            seen_left = self._left[block](_padded(left if first else tf.nn.elu(left), rows=0, left=KERNEL - 1 + first))
            if first:  # The last row and the last code see what nothing may: they would be those after the map.
                seen_above, seen_left = seen_above[:, :-1], seen_left[:, :, :-1]
            new = self._mixed[block](tf.nn.elu(seen_left + self._joined[block](tf.nn.elu(seen_above))))
            above, left = (seen_above, new) if first else (above + seen_above, left + new)
        return self._logits(tf.nn.elu(left))


def _padded(maps: tf.Tensor, *, rows: int, left: int | None = None) -> tf.Tensor:
    """Return maps with zeros above, and on the left, or else on both sides as far as a kernel reaches."""
    side = [(KERNEL - 1) // 2] * 2 if left is None else [left, 0]
    return tf.pad(maps, [[0, 0], [rows, 0], side, [0, 0]])


@dataclass(frozen=True)
class AutoregressiveCodes:
    """Codes of a map, each drawn with the probabilities that the network gives it after those before it."""

    network: MaskedConv
    shape: tuple[int, ...]  # height and width

    def log_prob(self, value: tf.Tensor) -> tf.Tensor:
        """Return the log-probability of codes, int32 `[n, height, width]`: `[n]`, in nats."""
        errors = tf.nn.sparse_softmax_cross_entropy_with_logits(value, self.network(value))
        return -tf.reduce_sum(errors, axis=[1, 2])

    def sample(self, noise: Noise) -> tf.Tensor:
        """Return codes, int32 `[images, height, width]`, drawn one after the other."""
        height, width = self.shape
        uniform = noise.uniform([height * width])

        @tf.function(autograph=False)
        def drawn(codes: tf.Tensor, uniform: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
            logits = tf.reshape(
                self.network(tf.reshape(codes, [-1, height, width])), [-1, height * width, self.network.codes]
            )
            below = tf.cumsum(tf.nn.softmax(logits[:, place]), axis=1, exclusive=True)
            # The code whose part of [0, 1) has the number; before the first one is none.
            code = tf.reduce_sum(tf.cast(uniform[:, place, tf.newaxis] >= below, tf.int32), axis=1) - 1
            return tf.where(tf.range(height * width) == place, code[:, tf.newaxis], codes)

        images = uniform.shape[0]
        size, parts = Space(self.shape, self.network.codes).at_once(images), []
        for start in range(0, images, size):
            part = uniform[start : start + size]
            codes = tf.zeros(tf.shape(part), tf.int32)
            for place in tf.range(height * width):
                codes = drawn(codes, part, place)
            parts.append(codes)
        return tf.reshape(tf.concat(parts, axis=0), [-1, height, width])


@dataclass(frozen=True)
class FittedAutoregression(FittedPrior):
    """The network, trained by maximum likelihood."""

    network: MaskedConv
    space: Space

    of_codes = True

    @classmethod
    def fit(cls, space: Space, values: Values, held_out: Values, report: Report, components: int = 0) -> Self:
        """Return the network under which `held_out` codes were most likely while it was trained.

        Raises:
            UserError: there are too many codes.
        """
        if space.codes > MAX_CODES:
            raise UserError(
                f"--prior autoregressive takes at most {MAX_CODES:,} codes, and this run has {space.codes:,}: train "
                "one with fewer"
            )
        keras.utils.set_random_seed(SEED)
        fitted = cls(_network(space), space)
        maximize_likelihood(fitted.network, fitted.distribution.log_prob, space, values, held_out, report, BATCH)
        return fitted

    @classmethod
    def from_arrays(cls, space: Space, arrays: Arrays) -> Self:
        """Return the network that has these arrays."""
        network = _network(space)
        shapes = {str(number): tuple(weight.shape) for number, weight in enumerate(network.variables)}
        check_arrays(arrays, shapes)
        network.set_weights([arrays[name] for name in shapes])
        return cls(network, space)

    @property
    def arrays(self) -> Arrays:
        """Return the network's weights by their number."""
        return {str(number): weight for number, weight in enumerate(self.network.get_weights())}

    @property
    def distribution(self) -> AutoregressiveCodes:
        """Return the distribution over maps of codes."""
        return AutoregressiveCodes(self.network, self.space.shape)

    symbol = "fitted autoregression"


def _network(space: Space) -> MaskedConv:
    network = MaskedConv(space.codes)
    network.build((None, *space.shape))
    return network
