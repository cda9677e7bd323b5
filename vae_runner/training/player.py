"""The players of a loss: who minimises what, and how."""

from typing import Any, NamedTuple

import keras

from vae_runner.training.schedules import LearningRate


class Player(NamedTuple):
    """Variables that one of a loss's scalars is minimised with respect to."""

    variables: list[Any]
    optimizer: keras.optimizers.Optimizer
    learning_rate: LearningRate
