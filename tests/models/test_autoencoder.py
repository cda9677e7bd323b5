import numpy as np
import tensorflow as tf

from tests.networks import build
from vae_runner.models import mlp
from vae_runner.models.autoencoder import to_unit_interval
from vae_runner.training.noise import GivenNoise


def test_samples_are_decoded_draws_of_the_prior() -> None:
    autoencoder = build((8, 9, 1), 3, model=mlp, width=4)
    for seed in (0, 7):
        z = tf.random.stateless_normal([5, 3], [seed, 0], alg="philox")
        np.testing.assert_array_equal(autoencoder.sample(GivenNoise([z])), autoencoder.decoder(z)["mean"])


def test_what_is_trained_is_the_encoders_and_then_the_decoders() -> None:
    autoencoder = build((8, 9, 1), 3, normalization="batch")
    expected = [*autoencoder.encoder.trainable_variables, *autoencoder.decoder.trainable_variables]
    assert [id(variable) for variable in autoencoder.trainable_variables] == [id(variable) for variable in expected]


def test_black_is_0_and_white_is_1() -> None:
    found = to_unit_interval(tf.constant([0, 51, 255], tf.uint8))
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, np.float32([0, 0.2, 1]))
