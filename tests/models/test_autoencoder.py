import numpy as np
import tensorflow as tf
from vae_runner.models.posterior import DiagonalGaussian

from vae_runner.models.autoencoder import to_unit_interval
from vae_runner.models.mlp import build


def test_samples_are_decoded_draws_of_the_prior_and_follow_from_the_seed() -> None:
    autoencoder = build((8, 9, 1), 3, DiagonalGaussian, width=4)
    for seed in (0, 7):
        z = tf.random.stateless_normal([5, 3], [seed, 0], alg="philox")
        np.testing.assert_array_equal(autoencoder.sample(5, seed), autoencoder.decoder(z))
    assert not np.array_equal(autoencoder.sample(5, 0), autoencoder.sample(5, 7))


def test_black_is_0_and_white_is_1() -> None:
    found = to_unit_interval(tf.constant([0, 51, 255], tf.uint8))
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, np.float32([0, 0.2, 1]))
