"""Student's t distribution for each pixel: single pixels that are far off cost little (Takahashi et al., 2018)."""

from collections.abc import Mapping

import keras
import tensorflow as tf

from vae_runner.distributions import student_t
from vae_runner.distributions.scale import soft_floor
from vae_runner.likelihoods.location_scale import LOG_SCALE_FLOOR, PixelScale


class StudentT(PixelScale, keras.layers.Layer):
    """t distributions with a scale for each pixel and one number of degrees of freedom ν > 2, which is learned."""

    def __init__(self, squash_mean: bool) -> None:
        keras.layers.Layer.__init__(self)
        PixelScale.__init__(self, squash_mean)
        self._weight = self.add_weight(shape=(), initializer="ones", dtype="float32", name="degrees_of_freedom")

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> student_t.StudentT:
        """Return the distributions of a batch's pixels."""
        degrees_of_freedom = 2 + keras.ops.softplus(self._weight)
        log_scale = soft_floor(parameters["log_scale"], LOG_SCALE_FLOOR)
        return student_t.StudentT(parameters["mean"], log_scale, degrees_of_freedom)
