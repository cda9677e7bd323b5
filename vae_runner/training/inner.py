"""The inner loop: many optimizer steps in one compiled call, without returning to Python."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Self

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.compat.keras import sums_no_gradients
from vae_runner.datasets.augmentation import NUMBERS, augment
from vae_runner.datasets.pipeline import Batches, Share
from vae_runner.datasets.schema import AugmentConfig
from vae_runner.distributions.base import Noise
from vae_runner.distributions.codes import CodeDistribution, perplexity
from vae_runner.losses.base import AUTOENCODER, Batch, Loss
from vae_runner.models.autoencoder import Autoencoder, to_unit_interval
from vae_runner.models.variables import Variables
from vae_runner.posteriors.base import CodePosterior
from vae_runner.runtime.hardware import Hardware
from vae_runner.training.averages import Averages
from vae_runner.training.noise import GivenNoise, Request, RequestedNoise, StatelessNoise
from vae_runner.training.schedules import LearningRate
from vae_runner.training.skipping import Skipping

OF_CODES = ("perplexity", "usage")  # what an evaluation measures of codes


class Player(NamedTuple):
    """Variables with respect to which one of a loss's scalars is minimised, and the optimizer that does it."""

    variables: list[tf.Variable]
    optimizer: keras.optimizers.Optimizer
    learning_rate: LearningRate
    skipping: Skipping | None = None  # None: no step is skipped

    def apply(self, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable]) -> tf.Tensor | bool:
        """Take a step along gradients with respect to these variables of its own; return whether it is skipped."""
        if self.skipping:
            return self.skipping.apply(self.optimizer, gradients, variables)
        self.optimizer.apply(gradients, variables)
        return False


class Sums(NamedTuple):
    """What a loop has added up so far; divided by `images`, means over images."""

    terms: NDArray[
        np.float64
    ]  # loss, terms, and after evaluation the codes' frequencies, each times its batch's images
    images: float
    bad_step: int  # the first step of the call whose loss is not finite, or −1
    bad_terms: NDArray[np.float64]  # the loss and terms of that step

    @classmethod
    def zero(cls, values: int) -> Self:
        """Return the sums before the first step, of so many values."""
        return cls(np.zeros(values), 0.0, -1, np.zeros(values))


class Place(NamedTuple):
    """Where one replica's images are in their batch, and of how many images the split of the batch is."""

    first: tf.Tensor  # int64, where they begin
    batch: tf.Tensor  # int64, how many images the batch has
    weight: tf.Tensor  # float64, how many images they count for
    batch_size: int  # of a batch that is not the last
    split_size: int


class InnerLoop:
    """The gradient and evaluation steps of an autoencoder under a loss, compiled, many to a call.

    Noise is stateless: training step n has that of (seed, n), evaluation batch n that of (seed, −1 − n).
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        loss: Loss,
        players: Mapping[str, Player],
        hardware: Hardware,
        seed: int,
        steps_per_epoch: int,
        *,
        augmentation: AugmentConfig | None = None,
        binarizes: bool = False,
        averages: Averages | None = None,
    ) -> None:
        """Compile nothing yet.

        Each training step changes its images as `augmentation` says, and with `binarizes` then draws black and white
        images of the grey ones. With `averages` the autoencoder of averaged weights is evaluated.
        """
        self.names = ("loss", *loss.terms)
        posterior = autoencoder.posterior
        self._codes = posterior.codes if isinstance(posterior, CodePosterior) else 0
        self.averages = averages
        self.loss_state = Variables({"loss": loss})  # among it what moves in training, and no player trains
        self._autoencoder = autoencoder
        self._evaluated = averages.view if averages else autoencoder
        self._loss = loss
        self._players = players
        for player in players.values():
            sums_no_gradients(player.optimizer)
        self._strategy = hardware.strategy
        self.all_reduce_max = hardware.all_reduce_max  # so that all workers take the same steps in a call
        self._seed = seed
        self._steps_per_epoch = steps_per_epoch
        self._augmentation, self._binarizes = augmentation, binarizes
        self._jit_compile = hardware.jit_compile
        # XLA, where it is on, compiles the arithmetic; data and noise stay outside, where they are the same with and
        # without it. Without XLA the steps are no functions of their own: inside one, replicas could not communicate.
        self._gradient_step, self._loss_only = self._apply_gradients, self._evaluate_loss
        self._state_step = self._move_state
        if hardware.jit_compile:
            self._gradient_step = tf.function(self._apply_gradients, jit_compile=True, autograph=False)
            self._loss_only = tf.function(self._evaluate_loss, jit_compile=True, autograph=False)
            self._state_step = tf.function(self._move_state, jit_compile=True, autograph=False)
        self._compiled_train = tf.function(partial(self._loop, self._train_step), autograph=False)
        self._compiled_estimate = tf.function(partial(self._loop, self._estimation_step), autograph=False)
        self._compiled_evaluate = tf.function(partial(self._loop, self._evaluation_step), autograph=False)

    @property
    def evaluated_names(self) -> tuple[str, ...]:
        """Return the names of what an evaluation measures: the loss, its terms, and where z is codes their use."""
        return (*self.names, *(OF_CODES if self._codes else ()))

    def means(self, sums: Sums) -> dict[str, float]:
        """Return by name what sums over images come to: means, and of codes how many are in use.

        The perplexity exp(−Σ f log f) of the codes' frequencies f is their number, were all equally frequent; the usage
        is the part of them that occurs at all.
        """
        means, frequencies = np.split(sums.terms / sums.images, [len(self.names)])
        of_codes = []
        if frequencies.size:
            of_codes = [perplexity(frequencies), float(np.mean(frequencies > 0))]
        return dict(zip(self.evaluated_names, [*means.tolist(), *of_codes], strict=False))

    @property
    def skipped_steps(self) -> int | None:
        """Return how many steps of its players have been skipped since the beginning; None where none ever is."""
        counts = [player.skipping.count for player in self._players.values() if player.skipping]
        return sum(int(np.asarray(count)) for count in counts) if counts else None

    @property
    def steps_taken(self) -> int:
        """Return how many steps the autoencoder's optimizer has taken since the beginning, which its schedule follows.

        Those that are skipped, or overflow in float16, are not among them.
        """
        optimizer = self._players[AUTOENCODER].optimizer
        return int(np.asarray(getattr(optimizer, "inner_optimizer", optimizer)._iterations))

    def train(
        self, batches: Batches, shares: Iterator[Share], first_step: int, steps: int, before: Sums | None = None
    ) -> Sums:
        """Take `steps` optimizer steps, numbered from `first_step`, on the next shares, and add to `before`.

        The sums go in and come out, so that they do not depend on how an epoch is cut into calls.
        """
        before = before or Sums.zero(len(self.names))
        return self._call(self._compiled_train, batches, shares, first_step, steps, before)

    def estimate(
        self, batches: Batches, shares: Iterator[Share], first_step: int, steps: int, before: Sums | None = None
    ) -> Sums:
        """Let the state of the averaged autoencoder follow training batches, as in training steps of these numbers.

        No weight changes by a gradient. What posterior and loss assign does, and is to be put back: averaged weights,
        and the state of the loss.
        """
        before = before or Sums.zero(len(self.names))
        return self._call(self._compiled_estimate, batches, shares, first_step, steps, before)

    def evaluate(
        self, batches: Batches, shares: Iterator[Share], first: int, steps: int, before: Sums | None = None
    ) -> Sums:
        """Add loss and terms of the next `steps` batches, numbered from `first`, to `before`; nothing is trained.

        Weights of terms are at their final values.
        """
        before = before or Sums.zero(len(self.names) + self._codes)
        return self._call(self._compiled_evaluate, batches, shares, first, steps, before)

    def _call(
        self,
        compiled: Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]],
        batches: Batches,
        shares: Iterator[Share],
        first: int,
        steps: int,
        before: Sums,
    ) -> Sums:
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
        step: Callable[[Batches, Share, tf.Tensor], tf.Tensor],
        batches: Batches,
        shares: Iterator[Share],
        first: tf.Tensor,
        steps: tf.Tensor,
        sums: tf.Tensor,
        images: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
        """Run `step` with the numbers from `first` on; return the sums, and the first number with values not finite."""

        def advance(
            i: tf.Tensor, sums: tf.Tensor, images: tf.Tensor, bad_step: tf.Tensor, bad_terms: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            number = first + i
            of_replicas = self._strategy.run(step, args=(batches, next(shares), number))
            total = self._strategy.reduce(tf.distribute.ReduceOp.SUM, of_replicas, axis=None)
            values, count = total[:-1], total[-1]
            first_bad = tf.logical_and(bad_step < 0, tf.logical_not(tf.reduce_all(tf.math.is_finite(values))))
            bad_terms = tf.where(first_bad, values / count, bad_terms)
            bad_step = tf.where(first_bad, number, bad_step)
            return i + 1, sums + values, images + count, bad_step, bad_terms

        zero, none = tf.constant(0, tf.int64), tf.constant(-1, tf.int64)
        results = tf.while_loop(lambda i, *_: i < steps, advance, (zero, sums, images, none, tf.zeros_like(sums)))
        return tuple(results[1:])

    def _train_step(self, batches: Batches, share: Share, step: tf.Tensor) -> tf.Tensor:
        return self._on_training_batch(self._gradient_step, batches, share, step)

    def _estimation_step(self, batches: Batches, share: Share, step: tf.Tensor) -> tf.Tensor:
        return self._on_training_batch(self._state_step, batches, share, step)

    def _on_training_batch(
        self, compute: Callable[..., tf.Tensor], batches: Batches, share: Share, step: tf.Tensor
    ) -> tf.Tensor:
        pixels, labels = batches.images(share), batches.labels(share)
        fraction = tf.cast(share.weight / tf.cast(share.batch, tf.float64), tf.float32)
        noise = self._noise(share, pixels, labels, step, training=True)
        place = _place(share, batches)
        return _weighted(compute(pixels, labels, noise, place, step, fraction), share)

    def _evaluation_step(self, batches: Batches, share: Share, index: tf.Tensor) -> tf.Tensor:
        pixels, labels = batches.images(share), batches.labels(share)
        noise = self._noise(share, pixels, labels, -1 - index, training=False)
        return _weighted(self._loss_only(pixels, labels, noise, _place(share, batches)), share)

    def _apply_gradients(
        self,
        pixels: tf.Tensor,
        labels: tf.Tensor | None,
        noise: Noise | list[tf.Tensor],
        place: Place,
        step: tf.Tensor,
        fraction: tf.Tensor,
    ) -> tf.Tensor:
        """Take one replica's part of an optimizer step, on this fraction of the batch; return the values of `names`."""
        with tf.GradientTape(persistent=len(self._players) > 1, watch_accessed_variables=False) as tape:
            for player in self._players.values():
                tape.watch([variable.value for variable in player.variables])
            losses, values = self._losses(self._autoencoder, pixels, labels, noise, place, step, training=True)
            # The batch's loss is the sum over the replicas.
            scaled = {
                name: player.optimizer.scale_loss(losses[name] * fraction) for name, player in self._players.items()
            }
        # All gradients are taken before the first update: each player answers the others as they were.
        gradients = {
            name: tape.gradient(scaled[name], [variable.value for variable in player.variables])
            for name, player in self._players.items()
        }
        skipped = {}
        for name, player in self._players.items():
            # A loss need not depend on all: a plain autoencoder takes a mean, and leaves an encoder's log_var as it is.
            moved = [v for v, gradient in zip(player.variables, gradients[name], strict=True) if gradient is not None]
            if not moved:
                raise ValueError(f"what the player {name!r} minimises depends on none of its variables")
            skipped[name] = player.apply(_sum_over_replicas(gradients[name]), moved)
        if self.averages:
            self.averages.update(skipped)
        return values

    def _move_state(
        self,
        pixels: tf.Tensor,
        labels: tf.Tensor | None,
        noise: Noise | list[tf.Tensor],
        place: Place,
        step: tf.Tensor,
        _: tf.Tensor,
    ) -> tf.Tensor:
        return self._losses(self._evaluated, pixels, labels, noise, place, step, training=True)[1]

    def _evaluate_loss(
        self, pixels: tf.Tensor, labels: tf.Tensor | None, noise: Noise | list[tf.Tensor], place: Place
    ) -> tf.Tensor:
        # Warm-ups count as over, so that the epochs of a run can be compared.
        over = tf.constant(tf.int64.max)
        values = self._losses(self._evaluated, pixels, labels, noise, place, over, training=False)[1]
        if not self._codes:
            return values
        posterior = self._evaluated.encode(to_unit_interval(pixels), labels)
        assert isinstance(posterior, CodeDistribution)
        part = 1 / tf.cast(tf.size(posterior.codes), tf.float32)
        frequencies = tf.math.unsorted_segment_sum(
            tf.fill(tf.shape(posterior.codes), part), posterior.codes, self._codes
        )
        return tf.concat([values, frequencies], axis=0)

    def _losses(
        self,
        autoencoder: Autoencoder,
        pixels: tf.Tensor,
        labels: tf.Tensor | None,
        noise: Noise | list[tf.Tensor],
        place: Place,
        step: tf.Tensor,
        training: bool,
    ) -> tuple[Mapping[str, tf.Tensor], tf.Tensor]:
        """Return what each player minimises, and the values of `names`; `noise` may be a list of finished draws."""
        source = GivenNoise(noise) if isinstance(noise, list) else noise
        gather, average = partial(_gather, place=place), partial(_average, place=place)
        epoch = tf.cast(step / self._steps_per_epoch, tf.float32) if training else tf.constant(np.inf)
        images = to_unit_interval(pixels)
        if training and self._augmentation:
            images = augment(images, source.uniform([NUMBERS]), self._augmentation)
        if training and self._binarizes:
            images = tf.cast(source.uniform(images.shape[1:]) < images, tf.float32)
        batch = Batch(images, labels, source, epoch, place.split_size, place.first, gather, average, step)
        minimised, terms = self._loss(autoencoder, batch, training=training)
        losses = minimised if isinstance(minimised, Mapping) else {AUTOENCODER: minimised}
        return losses, tf.stack([losses[AUTOENCODER], *(terms[name] for name in self._loss.terms)])

    def _noise(
        self, share: Share, pixels: tf.Tensor, labels: tf.Tensor | None, step: tf.Tensor, training: bool
    ) -> Noise | list[tf.Tensor]:
        """Return the noise of a share; where XLA compiles the step, the draws that the loss will ask for."""
        noise = StatelessNoise(self._seed, step, share, tf.shape(pixels, tf.int64)[0])
        if not self._jit_compile:
            return noise
        return [noise.draw(request) for request in self._requests(pixels, labels, training)]

    def _requests(self, pixels: tf.Tensor, labels: tf.Tensor | None, training: bool) -> list[Request]:
        """Return the draws that the loss asks for; tracing it once shows them."""
        recorder = RequestedNoise(tf.constant(1))

        def trace(pixels: tf.Tensor, labels: tf.Tensor | None) -> None:
            one_image = Place(tf.constant(0, tf.int64), tf.constant(1, tf.int64), tf.constant(1.0, tf.float64), 1, 1)
            labels = None if labels is None else labels[:1]
            self._losses(self._autoencoder, pixels[:1], labels, recorder, one_image, tf.constant(0, tf.int64), training)

        tf.function(trace, autograph=False).get_concrete_function(pixels, labels)
        return recorder.requests


def _place(share: Share, batches: Batches) -> Place:
    return Place(share.first, share.batch, share.weight, batches.batch_size, batches.count)


def _gather(values: tf.Tensor, place: Place) -> tf.Tensor:
    """Return what all replicas have of a batch, `[images of the batch, …]`: differentiable."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    count = tf.shape(values, tf.int64)[0]
    # A batch of fewer images than replicas goes to each of them whole, and counts in parts.
    part = tf.cast(place.weight / tf.cast(count, tf.float64), values.dtype)
    # A collective operation has one shape in all steps, that of a full batch.
    around = [[place.first, place.batch_size - place.first - count]] + [[0, 0]] * (values.shape.rank - 1)
    gathered = context.all_reduce(tf.distribute.ReduceOp.SUM, tf.pad(values * part, tf.cast(around, tf.int64)))
    return gathered[: place.batch]


def _average(values: tf.Tensor, place: Place) -> tf.Tensor:
    """Return the mean over a batch, of a mean over this replica's images: differentiable."""
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync == 1:
        return values
    part = tf.cast(place.weight / tf.cast(place.batch, tf.float64), values.dtype)
    return context.all_reduce(tf.distribute.ReduceOp.SUM, values * part)


def _weighted(values: tf.Tensor, share: Share) -> tf.Tensor:
    """Return one replica's part of the sums: means times the number of their images, and that number.

    They are one tensor, so that one message a step adds up all of them.
    """
    return tf.concat([tf.cast(values, tf.float64), [1.0]], axis=0) * share.weight


def _sum_over_replicas(gradients: Sequence[tf.Tensor | None]) -> list[tf.Tensor]:
    """Return the gradients of all replicas added up, without None, that of a variable without a part in the loss.

    They are dense. Rows that are read by their numbers, like a codebook's, have gradients that name a row as often as
    it was read, and an optimizer that squares these would square parts of a gradient instead of their sum.
    """
    known = [tf.convert_to_tensor(gradient) for gradient in gradients if gradient is not None]
    return list(tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, known))
