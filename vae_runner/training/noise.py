"""Random numbers of a step: functions of the seed, the step, the number of the draw, and an image's place in its batch.

They do not depend on how a batch is shared by replicas, on earlier steps, or on whether XLA compiles the step: XLA has
no generator that gives the same numbers everywhere, so draws for what it compiles are made outside.
"""

from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from vae_runner.datasets.pipeline import Share

GENERATORS: dict[str, Callable[..., tf.Tensor]] = {
    "normal": tf.random.stateless_normal,
    "uniform": tf.random.stateless_uniform,
}
Request = tuple[str, tuple[int, ...]]  # of a draw: from which generator, of what shape for one image


class Draws:
    """The two methods of `Noise`, by the one method in which the sources differ."""

    def normal(self, shape: Sequence[int]) -> tf.Tensor:
        """Return standard normal numbers, float32 `[images, *shape]`."""
        return self.draw(("normal", tuple(shape)))

    def uniform(self, shape: Sequence[int]) -> tf.Tensor:
        """Return uniform numbers in [0, 1), float32 `[images, *shape]`."""
        return self.draw(("uniform", tuple(shape)))

    def draw(self, request: Request) -> tf.Tensor:
        """Return the next draw."""
        raise NotImplementedError


class StatelessNoise(Draws):
    """The noise of one replica's share of a batch."""

    def __init__(self, seed: int, step: tf.Tensor, share: Share, images: tf.Tensor) -> None:
        self._seed = tf.stack([tf.constant(seed, tf.int64), step])
        self._share, self._images = share, images
        self._count = 0

    def draw(self, request: Request) -> tf.Tensor:
        """Return the rows of the share's `images` images in a draw that is made for the whole batch."""
        generator, shape = request
        seed = tf.random.experimental.stateless_fold_in(self._seed, self._count) if self._count else self._seed
        self._count += 1
        numbers = GENERATORS[generator](tf.stack([self._share.batch, *shape]), seed, alg="philox")
        return numbers[self._share.first : self._share.first + self._images]


class GivenNoise(Draws):
    """Draws that were made before, returned in their order."""

    def __init__(self, draws: Sequence[tf.Tensor]) -> None:
        self._draws = iter(draws)

    def draw(self, request: Request) -> tf.Tensor:
        """Return the next of the draws; the request is not looked at."""
        return next(self._draws)


class RequestedNoise(Draws):
    """A recorder of requests, all of whose draws are zeros."""

    def __init__(self, images: tf.Tensor) -> None:
        self.requests: list[Request] = []
        self._images = images

    def draw(self, request: Request) -> tf.Tensor:
        """Record the request; return zeros."""
        self.requests.append(request)
        return tf.zeros([self._images, *request[1]])


class NumpyNoise(Draws):
    """Noise for figures and samples, from NumPy's generator, for so many images."""

    def __init__(
        self, generator: np.random.Generator, images: int, dtype: type[np.float32] | type[np.float64] = np.float64
    ) -> None:
        self._generator, self._images, self._dtype = generator, images, dtype

    def draw(self, request: Request) -> tf.Tensor:
        """Return the generator's next numbers, as float32."""
        shape = (self._images, *request[1])
        draw = self._generator.standard_normal if request[0] == "normal" else self._generator.random
        return tf.constant(draw(shape, self._dtype).astype(np.float32))
