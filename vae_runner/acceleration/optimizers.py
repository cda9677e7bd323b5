"""Keras's optimizers with TensorFlow's fused updates."""

from collections.abc import Sequence

import keras
import tensorflow as tf


class Adam(keras.optimizers.Adam):
    """Keras's Adam (Kingma & Ba, 2015), whose update of a variable is one operation instead of a dozen.

    The numbers are Keras's within float32 rounding; arguments, schedules, clipping, weight decay and saved state are
    Keras's. What the operation does not cover (AMSGrad, sparse gradients) is left to Keras too.
    """

    def update_step(
        self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Update `variable` and its moments (Kingma & Ba, 2015, end of section 2, with ε as Keras places it)."""
        if self.amsgrad or not isinstance(gradient, tf.Tensor):
            super().update_step(gradient, variable, learning_rate)
            return
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        index = self._get_variable_index(variable)
        beta_1, beta_2 = tf.constant(self.beta_1, dtype), tf.constant(self.beta_2, dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle, m=self._momentums[index].handle, v=self._velocities[index].handle,
            beta1_power=tf.pow(beta_1, step), beta2_power=tf.pow(beta_2, step), lr=tf.cast(learning_rate, dtype),
            beta1=beta_1, beta2=beta_2, epsilon=tf.constant(self.epsilon, dtype), grad=tf.cast(gradient, dtype),
        )  # fmt: skip


class AdamW(Adam, keras.optimizers.AdamW):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019); arguments as `keras.optimizers.AdamW`."""


class Adamax(keras.optimizers.Adamax):
    """Keras's Adamax (Kingma & Ba, 2015, algorithm 2), whose update of a variable is one operation."""

    def update_step(
        self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Update `variable`, its first moment and its norm; sparse gradients are left to Keras."""
        if not isinstance(gradient, tf.Tensor):
            super().update_step(gradient, variable, learning_rate)
            return
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        beta_1 = tf.constant(self.beta_1, dtype)
        tf.raw_ops.ResourceApplyAdaMax(
            var=variable.handle, m=self._m[index].handle, v=self._u[index].handle,
            beta1_power=tf.pow(beta_1, tf.cast(self.iterations + 1, dtype)), lr=tf.cast(learning_rate, dtype),
            beta1=beta_1, beta2=tf.constant(self.beta_2, dtype), epsilon=tf.constant(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )  # fmt: skip


class RMSprop(keras.optimizers.RMSprop):
    """Keras's RMSprop (Tieleman & Hinton, 2012), whose update of a variable is one operation.

    That has a momentum for each weight also where `momentum` is 0, and Keras none. What it does not cover (centred
    moments, sparse gradients) is left to Keras.
    """

    def build(self, variables: Sequence[tf.Variable]) -> None:
        """Make the state: mean squares and momentums."""
        is_new = not self.built
        super().build(variables)
        if is_new and self.momentum == 0 and not self.centered:
            self._momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(
        self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Update `variable`, its mean square and its momentum."""
        if self.centered or not isinstance(gradient, tf.Tensor):
            super().update_step(gradient, variable, learning_rate)
            return
        dtype = variable.dtype
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyRMSProp(
            var=variable.handle, ms=self._velocities[index].handle, mom=self._momentums[index].handle,
            lr=tf.cast(learning_rate, dtype), rho=tf.constant(self.rho, dtype),
            momentum=tf.constant(self.momentum, dtype), epsilon=tf.constant(self.epsilon, dtype),
            grad=tf.cast(gradient, dtype),
        )  # fmt: skip
