"""Steps that are skipped because their gradient is too large, as trainings of very deep networks do (Child, 2021)."""

from collections.abc import Sequence

import keras
import tensorflow as tf


class Skipping:
    """The limit beyond which a player's step is skipped, and how many steps have been.

    A skipped step is taken and put back, weights and the optimizer's state: a condition around `apply` fails where
    replicas communicate. All replicas come to the same decision, because they have the same gradients.
    """

    def __init__(self, norm_above: float) -> None:
        self._norm_above = norm_above
        self.count = keras.Variable(0, dtype="int64", trainable=False, name="skipped_steps")

    @property
    def variables(self) -> list[tf.Variable]:
        """Return what is checkpointed: the number of skipped steps."""
        return [self.count]

    def apply(
        self, optimizer: keras.optimizers.Optimizer, gradients: Sequence[tf.Tensor], variables: Sequence[tf.Variable]
    ) -> tf.Tensor:
        """Update variables along gradients, which are those of all replicas, unless their norm is beyond the limit.

        Return whether the step is skipped: the norm of all gradients together, before they are clipped, is greater than
        the limit, or it is not finite. A scale of the loss is taken out before, and changes as it does without a limit.
        """
        norm = tf.linalg.global_norm([tf.convert_to_tensor(gradient) for gradient in gradients])
        norm /= optimizer.scale_loss(tf.constant(1.0))
        # Not as `not norm <= limit`: TensorFlow makes `norm > limit` of that, also where the norm is no number.
        skipped = tf.logical_or(norm > self._norm_above, tf.logical_not(tf.math.is_finite(norm)))
        state = [*variables, *getattr(optimizer, "inner_optimizer", optimizer).variables]
        before = [tf.identity(variable.value) for variable in state]
        optimizer.apply(gradients, variables)
        for variable, value in zip(state, before, strict=True):
            variable.assign(tf.where(skipped, value, variable.value))
        self.count.assign_add(tf.cast(skipped, tf.int64))
        return skipped
