"""Latents that are maps: networks give and take maps, and densities are of vectors."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.combinations import fits, names
from tests.networks import build
from tests.small_experiments import built, problems
from vae_runner.distributions.divergence import kl_divergence
from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.errors import UserError
from vae_runner.figures.interpolations import interpolations
from vae_runner.figures.latent_space import latent_space
from vae_runner.figures.manifold import manifold
from vae_runner.figures.samples import samples, samples_uniform
from vae_runner.figures.trained import Trained
from vae_runner.figures.traversals import traversals
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


CONV = ("model=conv", "model.latent=spatial", "model.downsamplings=1", "model.filters=4", "latent=2")


def of_each_posterior() -> Iterator[tuple[str, ...]]:
    """Yield for each posterior that makes maps a prior and a loss that fit it; priors take turns."""
    taken = dict.fromkeys(names("prior"), 0)
    for posterior in names("posterior"):
        if not fits({"model": {"latent": "spatial"}}, posterior=posterior, model="conv"):
            continue
        for loss in names("loss"):
            fitting = [name for name in taken if fits(posterior=posterior, prior=name, loss=loss)]
            if fitting:
                prior = min(fitting, key=taken.__getitem__)
                taken[prior] += 1
                yield posterior, prior, loss
                break


@pytest.mark.parametrize(
    ("posterior", "prior", "loss"),
    [
        chosen if number < 2 else pytest.param(*chosen, marks=pytest.mark.slow)
        for number, chosen in enumerate(of_each_posterior())
    ],
)
def test_every_posterior_and_prior_train_on_maps(posterior: str, prior: str, loss: str) -> None:
    experiment = built(f"posterior={posterior}", f"prior={prior}", f"loss={loss}", network=CONV)
    assert experiment.autoencoder.latent_shape[:2] == (4, 4)
    assert not list(problems(experiment, loss, compiled=False))


def test_one_number_a_position_is_enough_for_a_flow_of_several_dimensions() -> None:
    experiment = built("prior=real_nvp", "latent=1", network=CONV)
    assert experiment.autoencoder.latent == 16


def test_figures_of_a_spatial_model_are_those_of_many_dimensions() -> None:
    experiment = built(network=CONV)
    dataset = experiment.dataset
    trained = Trained(experiment.fused, dataset.test, dataset.label_names, [], epoch=1, seed=0)
    assert trained.posterior["mean"].shape == (len(trained.embedded), 32)
    assert manifold(trained, 3) is None
    for figure in (samples(trained, 2, 2), samples_uniform(trained, 2, 2), traversals(trained, 2, 3)):
        assert figure is not None
    drawn = interpolations(trained, 2, 3)
    assert drawn is not None
    assert "(4×4×2 latent space)" in latent_space(trained).get_suptitle()


def test_a_network_that_makes_no_maps_is_refused(tmp_path: Path, refusal: Callable[..., str]) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text(
        "_target_: vae_runner.models.mlp.build\nwidth: 8\nlatent: spatial\n"
    )
    said = refusal("vae-run", "--config-dir", "conf", "model=mine", "dataset.limit=20", cwd=tmp_path)
    assert "model.latent=spatial: vae_runner.models.mlp.build has no argument `spatial`" in said
