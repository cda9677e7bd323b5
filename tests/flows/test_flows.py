"""Invertible maps: inverses, Jacobians by autodiff, constraints, TensorFlow Probability's couplings."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_probability as tfp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.flows.making import FLOWS, INVERTIBLE, WIDTH, normal, randomised, real_nvp
from vae_runner.errors import UserError
from vae_runner.flows.householder import Householder, compact
from vae_runner.flows.iaf import GATE_BIAS, InverseAutoregressive, masked_networks
from vae_runner.flows.planar import Planar, invertible_shifts
from vae_runner.flows.real_nvp import RealNvp, coupling_networks
from vae_runner.flows.sylvester import Sylvester

IMAGES = 8


def jacobians(flow: object, z: tf.Tensor) -> np.ndarray:
    """∂ forward(z) / ∂z of each row, `[batch, latent, latent]`."""
    with tf.GradientTape() as tape:
        tape.watch(z)
        image, _ = flow.forward(z)
    return tape.batch_jacobian(image, z).numpy().astype(np.float64)


@pytest.mark.parametrize("latent", [2, 3, 6])
@pytest.mark.parametrize("name", FLOWS)
def test_log_det_is_that_of_the_jacobian_by_autodiff(name: str, latent: int) -> None:
    rng = np.random.default_rng(latent)
    flow, z = FLOWS[name](latent, IMAGES, rng), normal(rng, IMAGES, latent)
    sign, log_det = np.linalg.slogdet(jacobians(flow, z))
    np.testing.assert_allclose(flow.forward(z)[1], log_det, rtol=1e-4, atol=1e-4)
    if name != "householder":  # a reflection turns space inside out
        assert (sign > 0).all()


@pytest.mark.parametrize("latent", [2, 3, 6])
@pytest.mark.parametrize("name", INVERTIBLE)
def test_the_inverse_leads_back_with_the_same_log_det(name: str, latent: int) -> None:
    rng = np.random.default_rng(latent)
    flow, z = FLOWS[name](latent, IMAGES, rng), normal(rng, IMAGES, latent)
    image, log_det = flow.forward(z)
    assert np.abs(image - z).max() > 0.1
    start, log_det_there = flow.inverse(image)
    np.testing.assert_allclose(start, z, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(log_det_there, log_det, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", sorted(FLOWS.keys() - set(INVERTIBLE)))
def test_a_map_without_an_inverse_says_so(name: str) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(NotImplementedError, match="has no inverse in closed form"):
        FLOWS[name](2, IMAGES, rng).inverse(normal(rng, IMAGES, 2))


# --- planar ----------------------------------------------------------------------------------------------------------

VECTORS = arrays.arrays(np.float32, (2, 3), elements=st.floats(-30, 30, width=32))


@settings(deadline=None)
@given(vectors=VECTORS)
def test_a_planar_map_is_invertible_whatever_its_parameters(vectors: np.ndarray) -> None:
    normals, shifts = (tf.constant(vector[np.newaxis, np.newaxis]) for vector in vectors)
    allowed, inner = invertible_shifts(normals, shifts)
    assert float(inner[0, 0]) > -1
    exact = vectors[0].astype(np.float64) @ allowed.numpy()[0, 0].astype(np.float64)
    assert exact == pytest.approx(float(inner[0, 0]), abs=5e-4 + 1e-5 * float(np.abs(vectors).max()) ** 2)
    _, log_det = Planar(normals, shifts, tf.zeros([1, 1])).forward(tf.zeros([1, 3]))
    assert np.isfinite(log_det).all()


@settings(deadline=None)
@given(inner=st.floats(-100, 100, width=32))
def test_a_planar_map_goes_up_along_its_normal(inner: float) -> None:
    """Without the constraint (Rezende & Mohamed, 2015, appendix A.1) it folds space, and has no density."""
    normals, shifts = tf.constant([[[1.0, 0.0]]]), tf.constant([[[inner, 0.3]]])
    along = np.linspace(-3, 3, 301, dtype=np.float32)
    z = tf.constant(np.stack([along, np.zeros_like(along)], axis=1))
    flow = Planar(*(tf.repeat(part, len(along), axis=0) for part in (normals, shifts, tf.zeros([1, 1]))))
    assert (np.diff(flow.forward(z)[0][:, 0]) > -1e-6).all()


def test_planar_shifts_stay_bounded_and_have_gradients_where_the_normal_is_small_or_0() -> None:
    shifts = tf.constant([[[0.5, -0.2]]])
    for size in (0.0, 1e-30, 1e-8, 1e-3):
        normals = tf.constant([[[size, size]]])
        with tf.GradientTape() as tape:
            tape.watch([normals, shifts])
            allowed, _ = invertible_shifts(normals, shifts)
        np.testing.assert_allclose(allowed, shifts, atol=0.3)
        assert all(np.isfinite(gradient).all() for gradient in tape.gradient(allowed, [normals, shifts]))


# --- reflections -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("reflections", "latent"), [(1, 3), (4, 3), (10, 5), (8, 64)])
def test_the_compact_form_is_the_product_of_the_reflections(reflections: int, latent: int) -> None:
    vectors = np.random.default_rng(0).normal(size=(reflections, latent))
    product = np.eye(latent)
    for v in vectors:
        product = product @ (np.eye(latent) - 2 * np.outer(v, v) / (v @ v))
    z = np.random.default_rng(1).normal(size=latent)
    flow = Householder(tf.constant(vectors[np.newaxis], tf.float32))
    np.testing.assert_allclose(flow.forward(tf.constant(z[np.newaxis], tf.float32))[0][0], product @ z, atol=1e-5)
    unit, triangle = (part.numpy().astype(np.float64) for part in compact(tf.constant(vectors, tf.float32)))
    np.testing.assert_allclose(np.eye(latent) - unit.T @ np.linalg.solve(triangle, unit), product, atol=1e-5)


def test_reflections_along_one_vector_cancel_in_pairs() -> None:
    """Vectors that are the same make the triangle as ill-conditioned as it gets."""
    z = normal(np.random.default_rng(0), 4, 5)
    for count in (2, 10):
        flow = Householder(tf.repeat(normal(np.random.default_rng(1), 4, 1, 5), count, axis=1))
        np.testing.assert_allclose(flow.forward(z)[0], z, atol=1e-5)


@pytest.mark.parametrize(("columns", "latent"), [(1, 1), (2, 2), (2, 5), (8, 40)])
def test_the_columns_of_a_sylvester_map_are_orthonormal(columns: int, latent: int) -> None:
    rng = np.random.default_rng(0)
    flow = Sylvester(
        normal(rng, 6, 3, columns, latent), normal(rng, 6, 3, columns, columns + 1), normal(rng, 6, 3, columns)
    )
    rows = flow._orthonormal_rows().numpy()
    products = rows @ rows.swapaxes(-1, -2)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(columns), products.shape), atol=1e-5)


def test_a_sylvester_maps_log_det_is_finite_where_its_diagonals_saturate() -> None:
    triangles = tf.constant([[[[50.0, -50.0]]]])
    flow = Sylvester(tf.ones([1, 1, 1, 2]), triangles, tf.zeros([1, 1, 1]))
    with tf.GradientTape() as tape:
        tape.watch(triangles)
        log_det = Sylvester(flow.vectors, triangles, flow.offsets).forward(tf.zeros([1, 2]))[1]
    assert -8 < float(log_det[0]) < -5  # log(1 − 0.999²) = −6.2
    assert np.isfinite(tape.gradient(log_det, triangles)).all()


# --- networks --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latent", [1, 2, 5, 20])
def test_an_iafs_step_sees_the_dimensions_before_it_and_in_the_next_step_those_after(latent: int) -> None:
    rng = np.random.default_rng(0)
    networks, z = randomised(masked_networks(2, latent, 2 * WIDTH), rng, 0.3), normal(rng, 4, latent)
    for step, below in enumerate((True, False)):
        jacobian = jacobians(InverseAutoregressive([networks.given(context=None)[step]]), z)
        seen = np.tril(np.ones((latent, latent)), -1) if below else np.triu(np.ones((latent, latent)), 1)
        dependent = np.abs(jacobian).max(axis=0) > 0
        np.testing.assert_array_equal(dependent & ~np.eye(latent, dtype=bool), seen.astype(bool))


@pytest.mark.parametrize("latent", [1, 3])
def test_every_dimension_of_an_iaf_depends_on_the_context(latent: int) -> None:
    rng = np.random.default_rng(0)
    networks = randomised(masked_networks(1, latent, WIDTH), rng)
    z = tf.zeros([1, latent])
    images = [InverseAutoregressive(networks.given(normal(rng, 1, WIDTH))).forward(z)[0] for _ in range(2)]
    assert (np.abs(images[0] - images[1]) > 1e-4).all()


def test_flows_of_networks_begin_near_the_identity() -> None:
    z = normal(np.random.default_rng(0), 5, 4)
    image, log_det = RealNvp(coupling_networks(6, 4, WIDTH).given(None)).forward(z)
    np.testing.assert_array_equal(image, z)
    np.testing.assert_array_equal(log_det, np.zeros(5))
    gate = 1 / (1 + math.exp(-GATE_BIAS))
    image, log_det = InverseAutoregressive(masked_networks(2, 4, WIDTH).given(None)).forward(z)
    np.testing.assert_allclose(image, gate**2 * z, rtol=1e-5)
    np.testing.assert_allclose(log_det, [8 * math.log(gate)] * 5, rtol=1e-5)
    assert gate > 0.85


def test_couplings_of_an_odd_number_of_dimensions_change_every_one() -> None:
    rng = np.random.default_rng(0)
    z = normal(rng, 4, 5)
    assert (np.abs(real_nvp(5, 4, rng).forward(z)[0] - z).max(axis=0) > 1e-3).all()


def test_couplings_need_two_dimensions() -> None:
    with pytest.raises(
        UserError, match=r"^latent=1: real_nvp couples dimensions of z to each other, and needs at least"
    ):
        coupling_networks(2, 1, 8)


def test_couplings_and_autoregressive_maps_are_tensorflow_probabilitys() -> None:
    rng, latent = np.random.default_rng(0), 4
    z, context = normal(rng, IMAGES, latent), normal(rng, IMAGES, WIDTH)
    coupling = randomised(coupling_networks(1, latent, WIDTH), rng).given(context)[0]

    def scale_and_shift(kept: tf.Tensor, units: int, **_: object) -> tuple[tf.Tensor, tf.Tensor]:
        log_scale, shift = tf.split(coupling(kept), 2, axis=1)
        return shift, 2 * tf.tanh(log_scale / 2)

    theirs = tfp.bijectors.RealNVP(num_masked=latent // 2, shift_and_log_scale_fn=scale_and_shift)
    image, log_det = RealNvp([coupling]).forward(z)
    np.testing.assert_allclose(image, theirs.forward(z), atol=1e-5)
    np.testing.assert_allclose(log_det, theirs.forward_log_det_jacobian(z, 1), atol=1e-5)

    masked = randomised(masked_networks(1, latent, WIDTH), rng).given(context)[0]

    def gated(values: tf.Tensor, **_: object) -> tuple[tf.Tensor, tf.Tensor]:
        shift, logit = tf.split(masked(values), 2, axis=1)
        log_gate = tf.math.log_sigmoid(logit + GATE_BIAS)
        return -shift * tf.math.expm1(log_gate), log_gate  # theirs is scale · z + shift, of earlier dimensions

    # Their masked flow takes its parameters from its image: it is the inverse of ours, with a network of our z.
    flow = InverseAutoregressive([masked])
    image, log_det = flow.forward(z)

    def inverted(values: tf.Tensor, **_: object) -> tuple[tf.Tensor, tf.Tensor]:
        shift, log_scale = gated(values)
        return -shift * tf.exp(-log_scale), -log_scale

    theirs = tfp.bijectors.Invert(tfp.bijectors.MaskedAutoregressiveFlow(inverted))
    np.testing.assert_allclose(image, theirs.forward(z), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(log_det, theirs.forward_log_det_jacobian(z, 1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FLOWS)
def test_gradients_are_finite_far_away_too(name: str) -> None:
    rng = np.random.default_rng(0)
    flow, far = FLOWS[name](3, IMAGES, rng), normal(rng, IMAGES, 3, scale=30)
    with tf.GradientTape() as tape:
        tape.watch(far)
        image, log_det = flow.forward(far)
        total = tf.reduce_sum(image) + tf.reduce_sum(log_det)
    assert np.isfinite(tape.gradient(total, far)).all()
