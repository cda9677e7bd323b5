"""What is computed in batches against what is computed at once."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.networks import build
from vae_runner.evaluation.embeddings import (
    batch_size_for,
    decode,
    in_latent_space,
    information,
    latents_of,
    posterior_of,
    reconstruct,
)
from vae_runner.likelihoods.base import ImageDistribution
from vae_runner.likelihoods.gaussian import Gaussian as GaussianLikelihood
from vae_runner.models import mlp
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.posteriors.base import Posterior
from vae_runner.posteriors.gaussian import Gaussian
from vae_runner.posteriors.point import Point
from vae_runner.posteriors.power_spherical import PowerSpherical
from vae_runner.priors.normal import Normal
from vae_runner.priors.sphere import Sphere

COUNT = 300  # images: two batches and a part of one
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 9, 1), np.uint8)
IMAGES = PIXELS / np.float32(255)


def make(posterior: type[Posterior] = Gaussian, shape: tuple[int, int, int] = (8, 9, 1)) -> Autoencoder:
    keras.utils.set_random_seed(1)
    return build(shape, 3, posterior(), mlp, width=4)


@pytest.mark.parametrize(
    ("shape", "images"), [((8, 9, 1), 128), ((64, 96, 3), 127), ((256, 256, 3), 11), ((1024, 1024, 1), 1)]
)
def test_large_images_are_passed_through_in_smaller_batches(shape: tuple[int, int, int], images: int) -> None:
    assert batch_size_for(make(shape=shape)) == images


def test_each_image_has_its_embedding_and_each_latent_its_image_in_order() -> None:
    autoencoder = make()
    outputs = autoencoder.encoder(IMAGES)
    found = posterior_of(autoencoder, PIXELS)
    assert sorted(found) == ["log_var", "mean"]
    for name, values in found.items():
        np.testing.assert_allclose(values, outputs[name], atol=1e-5)
    decoded = autoencoder.decoder(outputs["mean"])["mean"]
    np.testing.assert_allclose(decode(autoencoder, found["mean"]), decoded, atol=1e-5)
    np.testing.assert_allclose(reconstruct(autoencoder, PIXELS), decoded, atol=1e-5)
    np.testing.assert_allclose(autoencoder.reconstruct(IMAGES), decoded, atol=1e-5)


def test_what_becomes_of_an_image_does_not_depend_on_how_many_there_are() -> None:
    """Products of matrices round by their shape, so that all batches must have the same."""
    shapes, found = [], []

    class Noted(Autoencoder):
        def parameters(self, images: tf.Tensor, *others: object) -> dict[str, tf.Tensor]:
            shapes.append(tuple(images.shape))
            return super().parameters(images, *others)

        def decode(self, z: tf.Tensor, *others: object) -> ImageDistribution:
            shapes.append(tuple(z.shape))
            return super().decode(z, *others)

    autoencoder = Noted(**vars(make()))
    for count in (5, 128, COUNT):
        posterior = posterior_of(autoencoder, PIXELS[:count])
        decoded = decode(autoencoder, posterior["mean"])
        found.append((*posterior.values(), decoded, latents_of(autoencoder, PIXELS[:count])))
        assert {len(values) for values in found[-1]} == {count}
        for values, of_five in zip(found[-1], found[0], strict=True):
            np.testing.assert_array_equal(values[:5], of_five)
    assert set(shapes) == {(128, 8, 9, 1), (128, 3)}


def test_the_information_of_a_dimension_is_its_mean_kl_over_the_images() -> None:
    mean, log_var = np.random.default_rng(1).normal(size=(2, COUNT, 3)).astype(np.float32)
    kl = [np.mean((m**2 + np.exp(v) - v - 1) / 2) for m, v in zip(mean.T, log_var.T, strict=True)]
    values, unit = information(make(), {"mean": mean, "log_var": log_var})
    np.testing.assert_allclose(values, kl, rtol=1e-4)
    assert unit == "nats"


def test_the_information_of_a_dimension_of_points_is_the_variance_of_the_embeddings() -> None:
    mean = np.random.default_rng(1).normal(5, [1, 2, 3], (COUNT, 3)).astype(np.float32)
    squares = [np.mean((m - m.mean()) ** 2) for m in mean.T]
    values, unit = information(make(Point), {"mean": mean})
    np.testing.assert_allclose(values, squares, rtol=1e-4)
    assert unit == "var."


def test_a_decoded_image_is_in_0_to_1_also_where_the_likelihoods_mean_is_not() -> None:
    keras.utils.set_random_seed(1)
    likelihood = GaussianLikelihood(scale=None, squash_mean=False)
    encoder, decoder = mlp.build((8, 9, 1), 3, Gaussian(), likelihood, width=4)
    autoencoder = Autoencoder(encoder, decoder, Gaussian(), Normal(), likelihood)
    z = 100 * np.random.default_rng(0).normal(size=(128, 3)).astype(np.float32)
    mean = autoencoder.decode(z).mean.numpy()
    assert mean.min() < 0
    assert mean.max() > 1
    np.testing.assert_array_equal(decode(autoencoder, z), np.clip(mean, 0, 1))


def test_latents_that_left_a_sphere_are_moved_back_to_it() -> None:
    z = np.random.default_rng(0).normal(size=(5, 4))
    spherical = replace(build((8, 9, 1), 3, PowerSpherical(), mlp, width=4), prior=Sphere())
    np.testing.assert_allclose(in_latent_space(spherical, z), z / np.linalg.norm(z, axis=1)[:, np.newaxis])
    np.testing.assert_array_equal(in_latent_space(make(), z[:, :3]), z[:, :3])
