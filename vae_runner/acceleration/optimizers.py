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


class Muon(Adam):
    """Muon (Jordan et al., 2024) for the kernels of layers, and Adam for all else.

    A kernel counts as a matrix, whose columns are its last dimension. Its step goes along the matrix with orthogonal
    rows or columns that is nearest to the momentum (Nesterov's), and has length 0.2 · √(the longer side): about that of
    Adam's steps, so that both share a learning rate (Liu et al., 2025, equation 4). Keras's Muon leaves
    kernels of convolutions to Adam, and takes other matrices, such as pseudo-inputs.
    """

    def __init__(
        self,
        learning_rate: float | keras.optimizers.schedules.LearningRateSchedule = 0.001,
        momentum: float = 0.95,
        **keys: float | None,
    ) -> None:
        """Take Adam's arguments, too."""
        super().__init__(learning_rate=learning_rate, **keys)
        self.momentum = momentum

    def update_step(
        self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Update `variable` and its momentum, of which Adam's first moment has the place."""
        index = self._get_variable_index(variable)
        # On several devices `variable` is a replica's part, of another name.
        if not is_kernel(self._trainable_variables[index]):
            super().update_step(gradient, variable, learning_rate)
            return
        gradient, kept = tf.cast(gradient, variable.dtype), self.momentum
        average = self._momentums[index]
        average.assign(kept * average.value + (1 - kept) * gradient)
        ahead = kept * average.value + (1 - kept) * gradient
        direction = orthogonalized(tf.reshape(ahead, (-1, variable.shape[-1])))
        length = 0.2 * max(direction.shape) ** 0.5 * tf.cast(learning_rate, variable.dtype)
        variable.assign_sub(length * tf.reshape(direction, variable.shape))


def is_kernel(variable: keras.Variable) -> bool:
    """Return whether a variable is the kernel of a layer, and no bias, scale, codebook or pseudo-input."""
    return variable.name == "kernel" and len(variable.shape) > 1


def orthogonalized(matrix: tf.Tensor) -> tf.Tensor:
    """Return about U Vᵀ of a matrix U S Vᵀ, by five Newton–Schulz iterations (Jordan et al., 2024).

    Singular values come out between 0.68 and 1.21, those below about a thousandth of the norm of the matrix smaller.
    """
    rows, columns = matrix.shape
    x = tf.transpose(matrix) if rows > columns else matrix
    x /= tf.norm(x) + 1e-7
    for _ in range(5):
        square = tf.matmul(x, x, transpose_b=True)
        x = 3.4445 * x + tf.matmul(-4.7750 * square + 2.0315 * tf.matmul(square, square), x)
    return tf.transpose(x) if rows > columns else x
