"""Adam and AdamW with TensorFlow's fused update."""

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
