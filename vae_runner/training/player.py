"""The players of a loss: who minimises what, and how."""

from typing import NamedTuple

import keras
import tensorflow as tf

from vae_runner.training.schedules import LearningRate


class Player(NamedTuple):
    """Variables with respect to which one of a loss's scalars is minimised, and the optimizer that does it."""

    variables: list[tf.Variable]
    optimizer: keras.optimizers.Optimizer
    learning_rate: LearningRate
