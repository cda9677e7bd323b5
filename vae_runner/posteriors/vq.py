"""The nearest vectors of a codebook."""

import math
from collections.abc import Callable, Mapping

import keras
import tensorflow as tf

from vae_runner.distributions.base import Distribution, Noise
from vae_runner.distributions.codes import Quantized
from vae_runner.posteriors.base import CodePosterior, Shape

KMEANS_STEPS = 10
LEAST_COUNT = 1e-20  # below it an average would be a quotient of rounding errors


class VectorQuantizer(CodePosterior, keras.layers.Layer):
    """The vector of a codebook that is nearest to each position of the encoder's output (van den Oord et al., 2017).

    A position is the channels of z at one place of a map, or all of a z that is no map. With `update` "ema" a vector is
    the moving average of what it was nearest to (appendix A.1); with "loss" it is a weight that the loss trains. With
    `cosine` vectors and positions are divided by their lengths, so that the nearest has the smallest angle (Yu et al.,
    2022, section 3.2). `kmeans` begins with centres of the first batch. A vector that is nearest to fewer than
    `restart_below` positions of a batch, in a moving average, begins again at a position of the batch (Dhariwal et al.,
    2020, section 3.1).
    """

    has_density = False

    def __init__(self, codes: int, update: str, decay: float, cosine: bool, kmeans: bool, restart_below: float) -> None:
        super().__init__()
        self.codes = codes
        self._update, self._decay, self._cosine = update, decay, cosine
        self._kmeans, self._restart_below = kmeans, restart_below

    def create_weights(self, image_shape: tuple[int, int, int], latent_shape: tuple[int, ...], classes: int) -> None:
        """Create the codebook and how often its vectors are taken, as moving averages of the last batches."""
        self._size = latent_shape[-1]
        # Their mean square length is 1 whatever their size, as in the paper's code. Were it large, and so varied, the
        # shortest vector would be the nearest to all positions.
        reach = math.sqrt(3 / self._size)
        uniform = keras.initializers.RandomUniform(-reach, reach)
        self._codebook = self.add_weight(
            shape=(self.codes, self._size), initializer=uniform, dtype="float32", trainable=self._update == "loss",
            name="codebook",
        )  # fmt: skip
        self._counts = self.add_weight(
            shape=(self.codes,), initializer="ones", dtype="float32", trainable=False, name="counts"
        )
        if self._kmeans:
            self._started = self.add_weight(
                shape=(), initializer="zeros", dtype="float32", trainable=False, name="started"
            )

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        """Return a number for each dimension of the vectors."""
        return {"embedding": latent}

    def positions(self, z_size: int) -> int:
        """Return how many vectors a z of `z_size` numbers is."""
        return z_size // self._size

    def embed(self, codes: tf.Tensor) -> tf.Tensor:
        """Return the vectors of codes, int32 `[batch, positions]`, in a row: float32 `[batch, dimensions]`."""
        return tf.reshape(tf.gather(self._vectors, codes), [-1, codes.shape[1] * self._size])

    def one_hots(self, z: tf.Tensor) -> tf.Tensor:
        """Return one-hots of the vectors nearest to z, `[batch, dimensions]`: float32 `[batch, positions, codes]`."""
        return tf.one_hot(self.distribution({"embedding": z}).codes, self.codes)

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> Quantized:
        """Return the nearest vectors of a batch."""
        dimensions = parameters["embedding"].shape[1]
        rows = self._scaled(tf.reshape(parameters["embedding"], [-1, self._size]))
        codes = tf.reshape(_nearest(rows, self._vectors), [-1, dimensions // self._size])
        return Quantized(tf.reshape(rows, [-1, dimensions]), self.embed(codes), codes)

    def fitted(
        self, distribution: Distribution, noise: Noise, epoch: tf.Tensor, gather: Callable[[tf.Tensor], tf.Tensor]
    ) -> Distribution:
        """Return the nearest vectors of a batch, from before the averages are moved by it, and move them.

        In the first step, with `kmeans`, they are the centres of the batch.
        """
        assert isinstance(distribution, Quantized)
        rows = tf.reshape(gather(tf.stop_gradient(distribution.embedding)), [-1, self._size])
        at_random = rows
        if self._kmeans or self._restart_below:  # the rows in a random order, which decides what vectors begin at
            numbers = gather(noise.uniform([distribution.codes.shape[1]]))
            at_random = tf.gather(rows, tf.argsort(tf.reshape(numbers, [-1])))
            # A batch with fewer positions than there are codes gives each several times.
            at_random = tf.gather(at_random, tf.range(self.codes) % tf.shape(rows)[0])
        if self._kmeans:
            centres, counts = tf.cond(
                self._started.value > 0,
                lambda: (self._vectors, self._counts.value),
                lambda: self._centres(rows, at_random),
            )
            self._codebook.assign(centres)
            self._counts.assign(counts)
            self._started.assign(1.0)
            distribution = self.distribution({"embedding": distribution.embedding})
        codes = tf.reshape(gather(tf.cast(distribution.codes, tf.float32)), [-1])
        self._move(rows, tf.cast(codes, tf.int32), at_random)
        return distribution

    def _move(self, rows: tf.Tensor, codes: tf.Tensor, at_random: tf.Tensor) -> None:
        """Move the averages by the positions `rows` of a batch, which have these codes; restart the rarest vectors."""
        vectors, old = self._vectors, self._counts.value
        taken, sums = self._by_code(rows, codes)
        counts = self._decay * old + (1 - self._decay) * taken
        if self._update == "ema":
            # An average of weight N and the sum of n new positions have the weights decay · N and 1 − decay.
            total = self._decay * old[:, tf.newaxis] * vectors + (1 - self._decay) * sums
            average = total / tf.maximum(counts, LEAST_COUNT)[:, tf.newaxis]
            vectors = self._scaled(tf.where(counts[:, tf.newaxis] > LEAST_COUNT, average, vectors))
        if self._restart_below:
            dead = counts < self._restart_below
            vectors = tf.where(dead[:, tf.newaxis], at_random, vectors)
            counts = tf.where(dead, tf.maximum(self._restart_below, 1.0), counts)
        if self._update == "ema" or self._restart_below:
            self._codebook.assign(vectors)
        self._counts.assign(counts)

    def _centres(self, rows: tf.Tensor, centres: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the centres of `rows` by k-means that begins at `centres`, and how many rows each has, at least 1."""
        for _ in range(KMEANS_STEPS):
            counts, sums = self._by_code(rows, _nearest(rows, centres))
            means = sums / tf.maximum(counts, 1.0)[:, tf.newaxis]
            centres = self._scaled(tf.where(counts[:, tf.newaxis] > 0, means, centres))
        return centres, tf.maximum(self._by_code(rows, _nearest(rows, centres))[0], 1.0)

    def _by_code(self, rows: tf.Tensor, codes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return how many of `rows` have each code, `[codes]`, and the sum of these rows, `[codes, size]`."""
        counts = tf.math.unsorted_segment_sum(tf.ones_like(rows[:, 0]), codes, self.codes)
        return counts, tf.math.unsorted_segment_sum(rows, codes, self.codes)

    @property
    def _vectors(self) -> tf.Tensor:
        """Return the vectors of the codebook, `[codes, size]`."""
        return self._scaled(self._codebook.value)

    def _scaled(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.math.l2_normalize(rows, axis=1) if self._cosine else rows


def _nearest(rows: tf.Tensor, vectors: tf.Tensor) -> tf.Tensor:
    """Return the index, int32 `[n]`, of the vector `[codes, size]` that is nearest to each of `rows` `[n, size]`."""
    # ‖row − vector‖² without ‖row‖², which is the same for all vectors.
    distances = tf.reduce_sum(tf.square(vectors), axis=1) - 2 * tf.matmul(rows, vectors, transpose_b=True)
    return tf.argmin(distances, axis=1, output_type=tf.int32)
