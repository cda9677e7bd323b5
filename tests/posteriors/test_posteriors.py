"""What every posterior has to do."""

import numpy as np
import pytest
import tensorflow as tf
from hydra.utils import get_class

from tests.combinations import names
from vae_runner.config import registry
from vae_runner.posteriors.base import Posterior
from vae_runner.posteriors.planar import Planar
from vae_runner.training.noise import GivenNoise, RequestedNoise

LATENT = 3
IMAGES = 5


def made(name: str) -> Posterior:
    """A posterior, of few steps."""
    component = next(c for c in registry.components("posterior") if c.name == name)
    keys = {key: value for key, value in vars(component.node).items() if key != "_target_"}
    posterior = get_class(str(component.target))(
        **{key: min(value, 4) if type(value) is int else value for key, value in keys.items()}
    )
    posterior.create_weights((8, 8, 1), (LATENT,), 0)
    return posterior


@pytest.mark.parametrize("name", names("posterior"))
def test_draws_their_densities_and_gradients_are_the_same_under_xla_for_any_number_of_images(name: str) -> None:
    rng, posterior = np.random.default_rng(0), made(name)
    parameters = {
        key: tf.constant(rng.normal(size=(IMAGES, *shape)), tf.float32)
        for key, shape in posterior.parameters((LATENT,)).items()
    }
    asked = RequestedNoise(tf.constant(IMAGES))
    posterior.distribution(parameters).sample(asked)
    drawn = [
        tf.constant(getattr(rng, "normal" if kind == "normal" else "uniform")(size=(IMAGES, *shape)), tf.float32)
        for kind, shape in asked.requests
    ]

    def values(parameters: dict[str, tf.Tensor], drawn: list[tf.Tensor]) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(parameters)
            q = posterior.distribution(parameters)
            z = q.sample(GivenNoise(drawn))
            total = tf.reduce_sum(z) + tf.reduce_sum(q.mean)
            if posterior.has_density:
                total += tf.reduce_sum(q.log_prob(z))
        gradients = tape.gradient(total, parameters)
        return [z, q.mean, total, *(gradients[key] for key in sorted(gradients))]

    def of_any_number(tensor: tf.Tensor) -> tf.TensorSpec:
        return tf.TensorSpec([None, *tensor.shape[1:]], tensor.dtype)

    signature = tf.nest.map_structure(of_any_number, (parameters, drawn))
    compiled = tf.function(values, input_signature=signature, jit_compile=True)
    for there, here in zip(compiled(parameters, drawn), values(parameters, drawn), strict=True):
        np.testing.assert_allclose(there, here, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize(("keys", "scale"), [({"scale": 0.25}, 0.25), ({}, 1)])  # earlier runs have no such key
def test_the_vectors_of_planar_maps_are_the_encoders_times_scale_and_the_offsets_are_the_encoders(
    keys: dict[str, float], scale: float
) -> None:
    rng, steps = np.random.default_rng(0), 2
    posterior = Planar(steps, **keys)
    given = {
        name: rng.normal(size=(IMAGES, *shape)).astype(np.float32)
        for name, shape in posterior.parameters((LATENT,)).items()
    }
    maps = posterior.flow({name: tf.constant(value) for name, value in given.items()})
    np.testing.assert_array_equal(maps.normals, scale * given["normals"].reshape(IMAGES, steps, LATENT))
    np.testing.assert_array_equal(maps.shifts, scale * given["shifts"].reshape(IMAGES, steps, LATENT))
    np.testing.assert_array_equal(maps.offsets, given["offsets"])
