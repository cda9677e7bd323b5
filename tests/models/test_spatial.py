"""Latents that are maps: networks give and take maps, and densities are of vectors."""

from collections.abc import Mapping

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks import build
from vae_runner.distributions.divergence import kl_divergence
from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.errors import UserError
from vae_runner.posteriors.base import Posterior, Shape
from vae_runner.posteriors.planar import Planar
from vae_runner.posteriors.power_spherical import PowerSpherical
from vae_runner.training.noise import NumpyNoise

IMAGES = np.random.default_rng(0).random((3, 9, 13, 3), np.float32)
POSITIONS = (3, 4)  # of images of 9×13 that are halved twice
LATENT = 2


def test_networks_speak_maps_and_densities_vectors_with_the_channels_of_a_position_together() -> None:
    autoencoder = build((9, 13, 3), LATENT, spatial=True, downsamplings=2)
    assert autoencoder.latent_shape == (*POSITIONS, LATENT)
    assert autoencoder.latent == 24
    assert autoencoder.is_spatial
    outputs = autoencoder.encoder(IMAGES)
    assert {name: output.shape for name, output in outputs.items()} == {
        "mean": (3, *POSITIONS, LATENT), "log_var": (3, *POSITIONS, LATENT)
    }  # fmt: skip
    posterior = autoencoder.encode(IMAGES)
    np.testing.assert_array_equal(posterior.mean, np.reshape(outputs["mean"], [3, 24]))
    z = posterior.sample(NumpyNoise(np.random.default_rng(0), 3))
    assert z.shape == (3, 24)
    images = autoencoder.decode(z).mean
    np.testing.assert_array_equal(images, autoencoder.decoder(np.reshape(z, [3, *POSITIONS, LATENT]))["mean"])
    assert images.shape == IMAGES.shape


def test_a_vector_is_neither_reshaped_nor_called_spatial() -> None:
    autoencoder = build((9, 13, 3), LATENT)
    assert (autoencoder.latent_shape, autoencoder.latent, autoencoder.is_spatial) == ((LATENT,), LATENT, False)


def test_the_kl_term_is_the_sum_over_the_map() -> None:
    autoencoder = build((9, 13, 3), LATENT, spatial=True, downsamplings=2)
    outputs = {name: np.array(output, np.float64) for name, output in autoencoder.encoder(IMAGES).items()}
    posterior, prior = autoencoder.encode(IMAGES), autoencoder.latent_prior()
    kl = kl_divergence(posterior, prior, posterior.sample(NumpyNoise(np.random.default_rng(0), 3)))
    mean, log_var = outputs["mean"], outputs["log_var"]
    expected = 0.5 * (mean**2 + np.exp(log_var) - log_var - 1).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(kl, expected, rtol=1e-5)


CHOICES = 5


class OneOf(Posterior):
    """A posterior with `CHOICES` numbers for each latent dimension, all of which the decoder is given."""

    has_density = False

    def z_shape(self, latent: Shape) -> Shape:
        return (latent[0] * CHOICES,)

    def parameters(self, latent: Shape) -> dict[str, Shape]:
        return {"logits": (*latent, CHOICES)}

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> DiagonalGaussian:
        logits = parameters["logits"]
        mean = tf.reshape(tf.nn.softmax(logits), [-1, logits.shape[1] * CHOICES])
        return DiagonalGaussian(mean, tf.zeros_like(mean))


@pytest.mark.parametrize(("spatial", "dimensions"), [(True, 24), (False, LATENT)])
def test_a_posterior_may_have_several_numbers_a_dimension_and_give_the_decoder_others(
    spatial: bool, dimensions: int
) -> None:
    autoencoder = build((9, 13, 3), LATENT, OneOf(), spatial=spatial, downsamplings=2)
    assert autoencoder.parameters(IMAGES)["logits"].shape == (3, dimensions, CHOICES)
    assert autoencoder.latent == dimensions * CHOICES
    mean = autoencoder.encode(IMAGES).mean
    # Each dimension's numbers stand together, also in the map that the decoder is given.
    np.testing.assert_allclose(np.reshape(mean, [3, dimensions, CHOICES]).sum(axis=-1), 1, rtol=1e-5)
    if spatial:
        given = np.reshape(mean, [3, *autoencoder.latent_shape])
        logits = np.array(autoencoder.encoder(IMAGES)["logits"])
        assert given.shape == logits.shape == (3, *POSITIONS, LATENT * CHOICES)
        by_dimension = tf.nn.softmax(logits.reshape([3, *POSITIONS, LATENT, CHOICES])).numpy()
        np.testing.assert_allclose(given, by_dimension.reshape(given.shape), rtol=1e-5)
    assert autoencoder.reconstruct(IMAGES).shape == IMAGES.shape


def test_heads_are_1x1_convolutions_in_float32_and_dense_where_a_parameter_is_of_the_whole_latent() -> None:
    encoder = build((9, 13, 3), LATENT, Planar(steps=2), spatial=True, downsamplings=2).encoder
    kinds = {name: type(encoder.get_layer(name)) for name in encoder.output_names}
    maps, vectors = ("base_log_var", "base_mean"), ("normals", "offsets", "shifts")
    assert kinds == {**dict.fromkeys(maps, keras.layers.Conv2D), **dict.fromkeys(vectors, keras.layers.Dense)}
    assert {encoder.get_layer(name).kernel_size for name in maps} == {(1, 1)}
    assert {encoder.get_layer(name).compute_dtype for name in kinds} == {"float32"}
    assert [layer.name for layer in encoder.layers if layer.name in kinds] == sorted(kinds)


def test_a_z_that_is_no_map_is_refused() -> None:
    with pytest.raises(UserError, match=r"model\.latent=spatial: posterior PowerSpherical makes a z of 25 numbers"):
        build((9, 13, 3), LATENT, PowerSpherical(), spatial=True, downsamplings=2)


def test_the_label_is_joined_to_every_position() -> None:
    autoencoder = build((9, 13, 3), LATENT, spatial=True, downsamplings=2, kernel_size=1, depth=2, classes=4)
    z = autoencoder.encode(IMAGES, np.array([0, 1, 2])).mean
    images = [np.array(autoencoder.decode(z, np.full(3, label)).mean) for label in (1, 3)]
    # With kernels of one pixel, a label that missed a position would miss the pixels made of it.
    by_position = np.abs(images[0] - images[1])[:, ::4, ::4].max(axis=(0, 3))
    assert by_position.shape == (3, 4)
    assert by_position.min() > 1e-5
