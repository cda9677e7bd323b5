"""Annealed importance sampling, held against the evidence of probabilistic PCA."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from tests.evaluation.linear_gaussian import reference
from tests.networks import build
from vae_runner.errors import UserError
from vae_runner.evaluation.ais import annealed_importance_sampling, inverse_temperatures
from vae_runner.likelihoods.base import ImageDistribution, Likelihood
from vae_runner.models import linear

MODEL = reference()


def test_temperatures_go_from_the_prior_to_the_posterior() -> None:
    betas = inverse_temperatures(10)
    assert len(betas) == 11
    assert (betas[0], betas[-1]) == (0.0, 1.0)
    assert (np.diff(betas) > 0).all()
    np.testing.assert_allclose(betas + betas[::-1], 1)


@pytest.mark.parametrize(
    ("steps", "bias"), [(10, -7.24), (50, -0.93), (200, -0.12), pytest.param(1000, -0.03, marks=pytest.mark.slow)]
)
def test_the_bias_falls_with_the_steps_at_least_as_in_the_table(steps: int, bias: float) -> None:
    pixels = MODEL.pixels(100)
    result = annealed_importance_sampling(MODEL.autoencoder(), pixels, steps=steps)
    difference = result.log_likelihood - MODEL.log_evidence(pixels)
    error = difference.std(ddof=1) / 10
    # The table is of another choice of step sizes. Ours is no worse, and a lower bound.
    assert bias - 4 * error < difference.mean() < min(4 * error, 0.05)
    assert difference.mean() < bias / 3 + 4 * error
    assert 0.8 < result.acceptance <= 0.97


def test_the_estimate_is_the_same_every_time_and_what_has_no_density_is_refused() -> None:
    pixels = MODEL.pixels(3)
    results = [annealed_importance_sampling(MODEL.autoencoder(), pixels, steps=5, chains=2) for _ in range(2)]
    np.testing.assert_array_equal(results[0].log_likelihood, results[1].log_likelihood)
    assert results[0].effective_chains.shape == (3,)
    with pytest.raises(UserError, match=r"^ais needs a density p\(x\|z\), and MeanSquaredError is"):
        annealed_importance_sampling(build((8, 8, 1), 2, model=linear), np.zeros((1, 8, 8, 1), np.uint8))
    with pytest.raises(UserError, match=r"^ais of 0 images"):
        annealed_importance_sampling(MODEL.autoencoder(), pixels[:0])


def test_the_estimate_of_an_image_does_not_depend_on_how_many_chains_are_moved_at_once_or_on_other_images() -> None:
    autoencoder, pixels, decoded = MODEL.autoencoder(), MODEL.pixels(7), []

    class Recorded(Likelihood):
        measure = autoencoder.likelihood.measure

        def distribution(self, parameters: Mapping[str, tf.Tensor]) -> ImageDistribution:
            decoded.append(parameters["mean"].shape[0])
            return autoencoder.likelihood.distribution(parameters)

    model = replace(autoencoder, likelihood=Recorded())
    together, by_five = (annealed_importance_sampling(model, pixels, steps=20, chains=4, rows=n) for n in (28, 5))
    assert set(decoded) == {28, 5}
    # A product of matrices rounds otherwise in another shape; other noise would make differences of about 1.
    np.testing.assert_allclose(by_five.log_likelihood, together.log_likelihood, rtol=1e-5)
    some = annealed_importance_sampling(model, pixels[:3], steps=20, chains=4, rows=5)
    np.testing.assert_array_equal(some.log_likelihood, by_five.log_likelihood[:3])
    annealed_importance_sampling(model, pixels, steps=2)
    assert decoded[-1] == 256  # one shape that fits into memory, however many there are
