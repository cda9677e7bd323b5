"""The inner loop: many optimizer steps in one compiled call, without returning to Python."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf

from vae_runner.datasets.pipeline import Batches
from vae_runner.hardware import Hardware
from vae_runner.losses import Batch, Loss
from vae_runner.models.autoencoder import Autoencoder, to_unit_interval


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
        self._strategy = hardware.strategy
        self._seed = seed
        self._steps_per_epoch = steps_per_epoch
        # XLA, where it is on, compiles the arithmetic; data and noise stay outside, where they are the same with and
        # without it.
        self._compiled_gradient_step = tf.function(self._gradient_step, jit_compile=hardware.jit_compile)
        self._compiled_loss_only = tf.function(self._loss_only, jit_compile=hardware.jit_compile)
        self._compiled_train = tf.function(partial(self._loop, self._train_step))
        self._compiled_evaluate = tf.function(partial(self._loop, self._evaluation_step))

    def train(
        self,
        batches: Batches,
        elements: Iterator[tf.Tensor],
        first_step: int,
        steps: int,
        before: Sums | None = None,
    ) -> Sums:
        """Take `steps` optimizer steps, numbered from `first_step`, on the next elements, and add to `before`.

        The sums go in and come out, so that they do not depend on how an epoch is cut into calls.
        """
        return self._call(self._compiled_train, batches, elements, first_step, steps, before)

    def evaluate(
        self,
        batches: Batches,
        elements: Iterator[tf.Tensor],
        first: int,
        steps: int,
        before: Sums | None = None,
    ) -> Sums:
        """Add loss and terms of the next `steps` elements, numbered from `first`, to `before`; nothing is trained.

        Weights of terms are at their final values.
        """
        return self._call(self._compiled_evaluate, batches, elements, first, steps, before)

    def _call(
        self,
        compiled: Any,
        batches: Batches,
        elements: Iterator[tf.Tensor],
        first: int,
        steps: int,
        before: Sums | None,
    ) -> Sums:
        before = before or Sums.nothing(len(self.names))
        terms, images, bad_step, bad_terms = compiled(
            batches,
            elements,
            tf.constant(first, tf.int64),
            tf.constant(steps, tf.int64),
            tf.constant(before.terms, tf.float64),
            tf.constant(before.images, tf.float64),
        )
        return Sums(terms.numpy(), float(images), int(bad_step), bad_terms.numpy())

    # --- compiled ----------------------------------------------------------------------------------------------

    def _loop(
        self,
        one: Callable[[Batches, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
        batches: Batches,
        elements: Iterator[tf.Tensor],
        first: tf.Tensor,
        steps: tf.Tensor,
        sums: tf.Tensor,
        images: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        bad_step = tf.constant(-1, tf.int64)
        bad_terms = tf.zeros([len(self.names)], tf.float64)
        for i in tf.range(steps):
            step = first + i
            values, count = self._strategy.run(one, args=(batches, next(elements), step))
            values, count = self._add_up(values, count)
            first_bad = tf.logical_and(bad_step < 0, tf.logical_not(tf.reduce_all(tf.math.is_finite(values))))
            bad_terms = tf.where(first_bad, values / count, bad_terms)
            bad_step = tf.where(first_bad, step, bad_step)
            sums += values
            images += count
        return sums, images, bad_step, bad_terms

    def _train_step(self, batches: Batches, element: tf.Tensor, step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = batches.images(element)
        epoch = tf.cast(step / self._steps_per_epoch, tf.float32)
        values = self._compiled_gradient_step(pixels, self._noise(pixels, step), epoch)
        return self._weigh(values, pixels)

    def _evaluation_step(self, batches: Batches, element: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        pixels = batches.images(element)
        values = self._compiled_loss_only(pixels, self._noise(pixels, -1 - index))
        return self._weigh(values, pixels)

    def _gradient_step(self, pixels: tf.Tensor, noise: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        variables = self._autoencoder.trainable_variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch([variable.value for variable in variables])
            loss, terms = self._loss(self._autoencoder, Batch(to_unit_interval(pixels), noise, epoch), training=True)
            scaled = self._optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, [variable.value for variable in variables])
        self._optimizer.apply(gradients, variables)
        return tf.stack([loss, *(terms[name] for name in self._loss.terms)])

    def _loss_only(self, pixels: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        # Warm-ups count as over, so that the epochs of a run compare.
        batch = Batch(to_unit_interval(pixels), noise, epoch=tf.constant(np.inf))
        loss, terms = self._loss(self._autoencoder, batch, training=False)
        return tf.stack([loss, *(terms[name] for name in self._loss.terms)])

    def _noise(self, pixels: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
        shape = [tf.shape(pixels)[0], self._autoencoder.latent]
        seed = tf.stack([tf.constant(self._seed, tf.int64), step])
        return tf.random.stateless_normal(shape, seed, alg="philox")  # the same on every device

    def _weigh(self, values: tf.Tensor, pixels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        count = tf.cast(tf.shape(pixels)[0], tf.float64)
        return tf.cast(values, tf.float64) * count, count

    def _add_up(self, values: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        add = tf.distribute.ReduceOp.SUM
        return self._strategy.reduce(add, values, axis=None), self._strategy.reduce(add, count, axis=None)
