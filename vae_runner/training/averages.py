"""The average of an autoencoder's weights over the steps of training, which evaluation, figures and files use."""

from collections.abc import Iterable, Mapping, Sequence

import keras
import numpy as np
import tensorflow as tf

from vae_runner.losses.base import AUTOENCODER
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.models.layers import batch_normalizations

BATCHES = 50  # of training, but at most those of an epoch: what state is estimated from before an evaluation
KEPT = 0.01  # of the trained network's moving averages, at most, after these


class Averages:
    """An exponential moving average of an autoencoder's weights, as the weights of a second autoencoder.

    After update n, counted from 0, the average is d · average + (1 − d) · weights with d = min(decay, n / (n + 9)): it
    begins as the weights after the first step, and looks back over about a ninth of the steps until `decay` is reached
    (as TensorFlow's ExponentialMovingAverage does with `num_updates` = n − 1). Training goes on with the weights.

    What is no weight, but moves in training (moving averages of batch normalisation, an optimal scale, a codebook),
    would be another with the averaged weights. It is estimated from training batches before each evaluation.
    """

    def __init__(
        self,
        decay: float,
        trained: Autoencoder,
        averaged: Autoencoder,
        view: Autoencoder,
        steps_per_epoch: int,
        players: Mapping[str, Sequence[tf.Variable]],
    ) -> None:
        """Let `averaged`, built alike, hold the average of `trained`; `view` shares its variables, and is evaluated.

        Of the variables of `players`, the average of each player's follows that player's steps.
        """
        self.autoencoder, self.view = averaged, view
        self.batches = min(BATCHES, steps_per_epoch)
        self._decay = decay
        names = {id(variable): name for name, variables in players.items() for variable in variables}
        self._weights: dict[str, list[tuple[tf.Variable, tf.Variable]]] = {}  # by the player that trains them
        for pair in zip(trained.trainable_variables, averaged.trainable_variables, strict=True):
            self._weights.setdefault(names.get(id(pair[0]), AUTOENCODER), []).append(pair)
        pairs = zip(_variables(trained), _variables(averaged), strict=True)
        self._state = [(one, other) for one, other in pairs if not one.trainable]
        self._updates = {
            name: keras.Variable(0, dtype="int64", trainable=False, name="updates") for name in self._weights
        }
        for network in (averaged.encoder, averaged.decoder):
            for layer in batch_normalizations(network):
                layer.momentum = min(layer.momentum, KEPT ** (1 / self.batches))

    @property
    def variables(self) -> list[tf.Variable]:
        """Return what is checkpointed: the numbers of updates, the averages, and the state estimated for them."""
        return [*self._updates.values(), *_variables(self.autoencoder)]

    @property
    def weights(self) -> list[tf.Variable]:
        """Return the averages."""
        return [average for weights in self._weights.values() for _, average in weights]

    @property
    def has_state(self) -> bool:
        """Return whether there is anything to estimate."""
        return bool(self._state)

    def update(self, skipped: Mapping[str, tf.Tensor | bool]) -> None:
        """Take the weights after a step into the average, but for those of players that skip it.

        That is on each replica, in the step.
        """
        for name, weights in self._weights.items():
            updates = tf.cast(self._updates[name].value, tf.float32)
            decay = tf.where(skipped[name], 1.0, tf.minimum(self._decay, updates / (updates + 9)))
            for weight, average in weights:
                part = tf.cast(decay, average.dtype)
                average.assign(part * average.value + (1 - part) * weight.value)
            self._updates[name].assign_add(tf.where(skipped[name], tf.constant(0, tf.int64), 1))

    def copy_state(self) -> None:
        """Begin the estimate with the state of the trained autoencoder; before any update the weights are its too."""
        for name, weights in self._weights.items():
            if not np.asarray(self._updates[name]):
                _copy(weights)
        _copy(self._state)


def _copy(pairs: Iterable[tuple[tf.Variable, tf.Variable]]) -> None:
    for trained, averaged in pairs:
        averaged.assign(np.asarray(trained))


def _variables(autoencoder: Autoencoder) -> list[tf.Variable]:
    return [variable for part in autoencoder.parts.values() for variable in part.variables]
