"""The inner loop: many optimizer steps in one compiled call, without returning to Python."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from vae_runner.datasets.pipeline import Batches, Share
from vae_runner.hardware import Hardware
from vae_runner.losses import Batch, Loss
from vae_runner.models.autoencoder import Autoencoder, to_unit_interval
from vae_runner.training.optimizers import sums_no_gradients


class Sums(NamedTuple):
    """What a loop has added up so far; divided by `images`, means over images."""

    terms: np.ndarray[Any, Any]  # float64 [1 + number of terms]: loss and terms, each times the images of its batch
    images: float
    bad_step: int  # the first step of the call whose loss is not finite, or −1
    bad_terms: np.ndarray[Any, Any]  # the loss and terms of that step

    @classmethod
    def nothing(cls, names: int) -> Self:
        """What there is before the first step, of so many values."""
        return cls(np.zeros(names), 0.0, -1, np.zeros(names))


class InnerLoop:
    """The gradient and evaluation steps of an autoencoder under a loss, compiled, many to a call.

    Noise is stateless: training step n has that of (seed, n), evaluation batch n that of (seed, −1 − n).
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        loss: Loss,
        optimizer: keras.optimizers.Optimizer,
        hardware: Hardware,
        seed: int,
        steps_per_epoch: int,
    ) -> None:
        self.names = ("loss", *loss.terms)
        self._autoencoder = autoencoder
        self._loss = loss
        self._optimizer = optimizer
        sums_no_gradients(optimizer)
        self._strategy = hardware.strategy
        self.largest = hardware.largest  # of what the machines of a run measure, so that they go on alike
        self._seed = seed
        self._steps_per_epoch = steps_per_epoch
        # XLA, where it is on, compiles the arithmetic; data and noise stay outside, where they are the same with and
        # without it. Without XLA there is no function of its own, in which replicas could not wait for each other.
        if hardware.jit_compile:
            self._gradient_step = _xla(self._gradient_step)  # type: ignore[method-assign]
            self._loss_only = _xla(self._loss_only)  # type: ignore[method-assign]
        self._compiled_train = tf.function(partial(self._loop, self._train_step))
        self._compiled_evaluate = tf.function(partial(self._loop, self._evaluation_step))

    def train(
        self,
        batches: Batches,
        shares: Iterator[Share],
        first_step: int,
        steps: int,
        before: Sums | None = None,
    ) -> Sums:
        """Take `steps` optimizer steps, numbered from `first_step`, on the next shares, and add to `before`.

        The sums go in and come out, so that they do not depend on how an epoch is cut into calls.
        """
        return self._call(self._compiled_train, batches, shares, first_step, steps, before)

    def evaluate(
        self,
        batches: Batches,
        shares: Iterator[Share],
        first: int,
        steps: int,
        before: Sums | None = None,
    ) -> Sums:
        """Add loss and terms of the next `steps` batches, numbered from `first`, to `before`; nothing is trained.

        Weights of terms are at their final values.
        """
        return self._call(self._compiled_evaluate, batches, shares, first, steps, before)

    def _call(
        self,
        compiled: Any,
        batches: Batches,
        shares: Iterator[Share],
        first: int,
        steps: int,
        before: Sums | None,
    ) -> Sums:
        before = before or Sums.nothing(len(self.names))
        terms, images, bad_step, bad_terms = compiled(
            batches,
            shares,
            tf.constant(first, tf.int64),
            tf.constant(steps, tf.int64),
            tf.constant(before.terms, tf.float64),
            tf.constant(before.images, tf.float64),
        )
        return Sums(terms.numpy(), float(images), int(bad_step), bad_terms.numpy())

    # --- compiled ----------------------------------------------------------------------------------------------

    def _loop(
        self,
        one: Callable[[Batches, Share, tf.Tensor], tf.Tensor],
        batches: Batches,
        shares: Iterator[Share],
        first: tf.Tensor,
        steps: tf.Tensor,
        sums: tf.Tensor,
        images: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        bad_step = tf.constant(-1, tf.int64)
        bad_terms = tf.zeros([len(self.names)], tf.float64)
        for i in tf.range(steps):
            step = first + i
            parts = self._strategy.run(one, args=(batches, next(shares), step))
            total = self._strategy.reduce(tf.distribute.ReduceOp.SUM, parts, axis=None)
            values, count = total[:-1], total[-1]
            first_bad = tf.logical_and(bad_step < 0, tf.logical_not(tf.reduce_all(tf.math.is_finite(values))))
            bad_terms = tf.where(first_bad, values / count, bad_terms)
            bad_step = tf.where(first_bad, step, bad_step)
            sums += values
            images += count
        return sums, images, bad_step, bad_terms

    def _train_step(self, batches: Batches, share: Share, step: tf.Tensor) -> tf.Tensor:
        pixels = batches.images(share)
        epoch = tf.cast(step / self._steps_per_epoch, tf.float32)
        part = tf.cast(share.weight / tf.cast(share.batch, tf.float64), tf.float32)
        values = self._gradient_step(pixels, self._noise(share, pixels, step), epoch, part)
        return _weighted(values, share)

    def _evaluation_step(self, batches: Batches, share: Share, index: tf.Tensor) -> tf.Tensor:
        pixels = batches.images(share)
        values = self._loss_only(pixels, self._noise(share, pixels, -1 - index))
        return _weighted(values, share)

    def _gradient_step(self, pixels: tf.Tensor, noise: tf.Tensor, epoch: tf.Tensor, part: tf.Tensor) -> tf.Tensor:
        """One replica's part of an optimizer step; `part` says how much of the batch that is."""
        variables = self._autoencoder.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            loss, terms = self._loss(self._autoencoder, Batch(to_unit_interval(pixels), noise, epoch), training=True)
            scaled = self._optimizer.scale_loss(loss * part)  # the batch's loss is the sum over the replicas
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        self._optimizer.apply(_summed(gradients), variables)
        return tf.stack([loss, *(terms[name] for name in self._loss.terms)])

    def _loss_only(self, pixels: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        # Warm-ups count as over, so that the epochs of a run compare.
        batch = Batch(to_unit_interval(pixels), noise, epoch=tf.constant(np.inf))
        loss, terms = self._loss(self._autoencoder, batch, training=False)
        return tf.stack([loss, *(terms[name] for name in self._loss.terms)])

    def _noise(self, share: Share, pixels: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        """An image's noise follows from its place in the batch, whichever replica it is on."""
        shape = tf.stack([share.batch, self._autoencoder.latent])
        seed = tf.stack([tf.constant(self._seed, tf.int64), step])
        noise = tf.random.stateless_normal(shape, seed, alg="philox")  # the same on every device
        return noise[share.first : share.first + tf.shape(pixels, tf.int64)[0]]


def _weighted(values: tf.Tensor, share: Share) -> tf.Tensor:
    """One replica's part of the sums: means times the images they are of, and how many these are, in one tensor.

    So that one message a step adds it all up.
    """
    return tf.concat([tf.cast(values, tf.float64), [1.0]], axis=0) * share.weight


def _xla(step: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    return tf.function(step, jit_compile=True)


def _summed(gradients: Sequence[tf.Tensor | None]) -> list[tf.Tensor | None]:
    """Over the replicas; what the loss does not depend on has none."""
    known = [gradient for gradient in gradients if gradient is not None]
    summed = iter(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, known))
    return [None if gradient is None else next(summed) for gradient in gradients]
