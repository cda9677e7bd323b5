"""Losses with opponents: what each player minimises, what a discriminator learns, and the terms by hand."""

from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.conftest import mostly_slow
from tests.networks import build
from tests.small_experiments import BATCH, SMALL, built, two_steps
from vae_runner.acceleration.optimizers import Adam
from vae_runner.datasets.pipeline import Share
from vae_runner.errors import UserError
from vae_runner.experiment import Experiment
from vae_runner.likelihoods.gaussian import Gaussian as GaussianLikelihood
from vae_runner.losses import discriminators
from vae_runner.losses.adversarial import Adversarial
from vae_runner.losses.base import AUTOENCODER, DECODER, DISCRIMINATOR, Batch, Loss
from vae_runner.losses.factor import Factor, independent_dimensions
from vae_runner.losses.patch_gan import NEAR_ZERO, PatchGan
from vae_runner.losses.vae_gan import VaeGan
from vae_runner.models import mlp
from vae_runner.models.autoencoder import Autoencoder, to_unit_interval
from vae_runner.posteriors.point import Point
from vae_runner.training.inner import Place
from vae_runner.training.noise import GivenNoise, NumpyNoise, StatelessNoise

SHAPE, LATENT, IMAGES = (8, 8, 1), 3, 6


@pytest.fixture(autouse=True, scope="module")
def seeded() -> None:
    """Let networks have the same first weights in every run of this file."""
    keras.utils.set_random_seed(0)


def batch(seed: int = 0, step: int = 0) -> Batch:
    """Some images, with noise of this seed."""
    images = np.random.default_rng(7).random((IMAGES, *SHAPE), np.float32)
    noise = NumpyNoise(np.random.default_rng(seed), IMAGES)
    return Batch(tf.constant(images), None, noise, tf.constant(0.0), step=tf.constant(step, tf.int64))


def opposed(loss: Loss, autoencoder: Autoencoder) -> dict[str, list[tf.Variable]]:
    """Make a loss's discriminator; return its players."""
    loss.check(autoencoder)
    loss.make_opponents(autoencoder)
    return loss.players(autoencoder)


# --- players --------------------------------------------------------------------------------------------------------

PLAYERS = {
    "factor_vae": {AUTOENCODER: {"encoder", "decoder"}, DISCRIMINATOR: set()},
    "aae": {AUTOENCODER: {"encoder", "decoder"}, DISCRIMINATOR: set()},
    "vae_gan": {AUTOENCODER: {"encoder"}, DECODER: {"decoder"}, DISCRIMINATOR: set()},
    "kl_autoencoder": {AUTOENCODER: {"encoder", "decoder"}, DISCRIMINATOR: set()},
}


@pytest.mark.parametrize("method", mostly_slow(list(PLAYERS), quick=1))
def test_a_players_step_is_along_the_gradient_of_its_own_scalar_and_moves_its_own_variables_only(method: str) -> None:
    # A second backward pass that adds to the first one's gradients, or a discriminator's that reaches the encoder.
    experiment = built(f"method={method}", *(["loss.adversarial_from=0"] if method == "kl_autoencoder" else []))
    inner, autoencoder, discriminator = experiment.trainer._inner, experiment.autoencoder, discriminator_of(experiment)
    owners = {id(v): name for name, part in autoencoder.parts.items() for v in part.trainable_variables}
    owners |= {id(variable): DISCRIMINATOR for variable in discriminator.trainable_variables}
    owned = {name: {owners[id(v)] for v in player.variables} for name, player in inner._players.items()}
    assert owned == PLAYERS[method] | {DISCRIMINATOR: {DISCRIMINATOR}}
    assert sum(len(player.variables) for player in inner._players.values()) == len(owners)

    pixels = tf.constant(np.asarray(experiment.dataset.train.images[:BATCH]))
    zero, count = tf.constant(0, tf.int64), tf.constant(BATCH, tf.int64)
    share = Share(None, zero, tf.constant(float(BATCH), tf.float64), count, None)

    def noise() -> StatelessNoise:
        return StatelessNoise(0, zero, share, count)

    with tf.GradientTape(persistent=True) as tape:
        given = Batch(to_unit_interval(pixels), None, noise(), tf.constant(0.0), step=zero)
        losses, _ = inner._loss(autoencoder, given, training=True)
    expected = {
        name: tape.gradient(losses[name], [variable.value for variable in player.variables])
        for name, player in inner._players.items()
    }
    rate = 1e-3
    for mover in inner._players:
        before = {name: [np.array(v) for v in player.variables] for name, player in inner._players.items()}
        saved = dict(inner._players)
        for name, player in saved.items():
            optimizer = keras.optimizers.SGD(rate if name == mover else 0.0)
            inner._players[name] = player._replace(optimizer=optimizer)
        inner._apply_gradients(pixels, None, noise(), Place(zero, count, share.weight, BATCH, BATCH), zero, 1.0)
        for name, player in inner._players.items():
            for variable, old, gradient in zip(player.variables, before[name], expected[name], strict=True):
                step = 0 if name != mover or gradient is None else -rate * gradient.numpy()
                np.testing.assert_allclose(np.array(variable) - old, step, rtol=2e-3, atol=2e-6)
                variable.assign(old)


def discriminator_of(experiment: Experiment) -> keras.Model:
    discriminator = experiment.loss.discriminator  # type: ignore[attr-defined]
    assert isinstance(discriminator, keras.Model)
    return discriminator


def test_the_encoder_of_a_vae_gan_has_no_adversarial_term_and_its_decoder_no_kl_term() -> None:
    autoencoder, loss = build(SHAPE, LATENT, model=mlp, width=8), VaeGan(0.5, 0.25, discriminator_width=2)
    opposed(loss, autoencoder)
    losses, terms = loss(autoencoder, batch(), training=True)
    kl, features, adversarial = (float(terms[name]) for name in ("kl", "features", "adversarial"))
    assert float(losses[AUTOENCODER]) == pytest.approx(0.5 * kl + features, rel=1e-6)
    assert float(losses[DECODER]) == pytest.approx(0.25 * features + adversarial, rel=1e-6)
    assert losses[DISCRIMINATOR] == terms["discriminator"]


def test_the_players_of_a_vae_gan_follow_the_gradients_of_their_terms() -> None:
    autoencoder, loss = build(SHAPE, LATENT, model=mlp, width=8), VaeGan(0.5, 0.25, discriminator_width=2)
    opposed(loss, autoencoder)
    players = loss.players(autoencoder)
    with tf.GradientTape(persistent=True) as tape:
        losses, terms = loss(autoencoder, batch(), training=True)
        plain = {
            AUTOENCODER: 0.5 * terms["kl"] + terms["features"],
            DECODER: 0.25 * terms["features"] + terms["adversarial"],
            DISCRIMINATOR: terms["discriminator"],
        }
    for name, variables in players.items():
        found, expected = (tape.gradient(of[name], [v.value for v in variables]) for of in (losses, plain))
        for variable, a, b in zip(variables, found, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-6, err_msg=variable.path)


def test_an_opponents_optimizer_has_its_own_keys_with_their_bounds(refusal: Callable[..., str], tmp_path: Path) -> None:
    said = refusal("vae-run", "loss=factor", "loss.players.discriminator.beta_1=2", *SMALL, cwd=tmp_path)
    assert "loss.players.discriminator.beta_1=2.0: must be less than 1" in said


# --- what a discriminator learns ------------------------------------------------------------------------------------


def trained(discriminator: keras.Model, real: np.ndarray, generated: np.ndarray, steps: int) -> None:
    """Let a discriminator minimise the cross-entropy of all of these."""
    optimizer, variables = Adam(0.01, beta_1=0.5), discriminator.trainable_variables
    optimizer.build(variables)

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            wrong = discriminators.cross_entropy(discriminator(real), discriminator(generated))
        optimizer.apply(tape.gradient(wrong, variables), variables)

    for _ in range(steps):
        step()


def test_the_optimum_of_a_discriminator_is_the_difference_of_the_log_densities() -> None:
    keras.utils.set_random_seed(0)
    quantiles = tf.math.ndtri(tf.constant((np.arange(2000) + 0.5)[:, np.newaxis] / 2000, tf.float32))
    discriminator = discriminators.of_vectors(1, width=16, depth=1)
    trained(discriminator, quantiles, quantiles + 1, 300)
    x = np.linspace(-1.0, 2.0, 7, dtype=np.float32)[:, np.newaxis]
    # log N(x; 0, 1) − log N(x; 1, 1)
    np.testing.assert_allclose(discriminator(x), 0.5 - x, atol=0.1)


def test_a_discriminators_mean_logit_is_the_total_correlation_of_what_it_has_learned() -> None:
    keras.utils.set_random_seed(0)
    rng, correlation, count = np.random.default_rng(0), 0.8, 4000
    z = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], count).astype(np.float32)
    noise = NumpyNoise(rng, count)
    shuffled = independent_dimensions(tf.constant(z), Batch(tf.zeros([count]), None, noise, tf.constant(0.0)))
    discriminator = discriminators.of_vectors(2, width=32, depth=2)
    trained(discriminator, z, shuffled, 300)
    exact = -0.5 * np.log(1 - correlation**2)
    assert float(tf.reduce_mean(discriminator(z))) == pytest.approx(exact, abs=0.06)


def test_each_dimension_is_permuted_by_itself_and_keeps_its_values() -> None:
    # One permutation of rows leaves dimensions as dependent as they were.
    count = 500
    column = np.random.default_rng(0).normal(size=(count, 1)).astype(np.float32)
    z = tf.constant(np.repeat(column, 4, axis=1))
    given = Batch(tf.zeros([count]), None, NumpyNoise(np.random.default_rng(1), count), tf.constant(0.0))
    with tf.GradientTape() as tape:
        tape.watch(z)
        permuted = independent_dimensions(z, given)
    np.testing.assert_array_equal(np.sort(permuted, axis=0), np.sort(z, axis=0))
    correlations = np.corrcoef(np.concatenate([permuted, column], axis=1), rowvar=False)
    assert np.abs(correlations - np.eye(5)).max() < 4 / np.sqrt(count)
    assert tape.gradient(permuted, z) is None


def test_a_replica_permutes_its_part_of_the_whole_batch() -> None:
    z, keys = (tf.constant(np.random.default_rng(s).random((10, 3), np.float32)) for s in (0, 1))

    def of(first: int, end: int) -> tf.Tensor:
        gathered = iter([keys, z])
        noise, start = GivenNoise([keys[first:end]]), tf.constant(first, tf.int64)
        given = Batch(z[first:end], None, noise, tf.constant(0.0), 10, start, lambda _: next(gathered))
        return independent_dimensions(z[first:end], given)

    np.testing.assert_array_equal(tf.concat([of(0, 4), of(4, 10)], axis=0), of(0, 10))


# --- terms ----------------------------------------------------------------------------------------------------------


def test_losses_of_discriminators_by_hand() -> None:
    real, generated = tf.constant([2.0, 0.0]), tf.constant([-2.0, 0.5])
    assert float(discriminators.hinge(real, generated)) == pytest.approx(0.5 * (0.5 + 0.75))
    odds = np.exp([2.0, 0.0]), np.exp([-2.0, 0.5])
    said = [np.log1p(1 / odds[0]).mean(), np.log1p(odds[1]).mean()]
    assert float(discriminators.cross_entropy(real, generated)) == pytest.approx(0.5 * sum(said))
    assert float(discriminators.non_saturating(generated)) == pytest.approx(np.log1p(1 / odds[1]).mean())


def test_a_factor_vae_adds_the_weighted_mean_logit_to_the_elbo() -> None:
    autoencoder = build(SHAPE, LATENT, model=mlp, width=8)
    loss = Factor(total_correlation_weight=4, discriminator_width=8, discriminator_depth=2)
    opposed(loss, autoencoder)
    losses, terms = loss(autoencoder, batch(), training=True)
    z = autoencoder.encode(batch().images).sample(batch().noise)
    assert float(terms["total_correlation"]) == pytest.approx(float(tf.reduce_mean(loss.discriminator(z))), rel=1e-5)
    elbo = float(terms["reconstruction"] + terms["kl"])
    assert float(losses[AUTOENCODER]) == pytest.approx(elbo + 4 * float(terms["total_correlation"]), rel=1e-6)


def test_an_adversarial_autoencoder_tells_its_codes_from_draws_of_the_prior() -> None:
    autoencoder, loss = (
        build(SHAPE, LATENT, Point(), mlp, width=8),
        Adversarial(adversarial_weight=3, discriminator_width=8),
    )
    opposed(loss, autoencoder)
    losses, terms = loss(autoencoder, batch(), training=True)
    encoded = loss.discriminator(autoencoder.encode(batch().images).mean).numpy()
    drawn = loss.discriminator(batch().noise.normal([LATENT])).numpy()
    wrong = 0.5 * (np.log1p(np.exp(-drawn)).mean() + np.log1p(np.exp(encoded)).mean())
    assert float(losses[DISCRIMINATOR]) == pytest.approx(wrong, rel=1e-5)
    expected = float(terms["reconstruction"]) + 3 * np.log1p(np.exp(-encoded)).mean()
    assert float(losses[AUTOENCODER]) == pytest.approx(expected, rel=1e-6)


def test_features_are_compared_as_they_leave_the_last_convolution_of_the_discriminator() -> None:
    autoencoder, loss = build(SHAPE, LATENT, model=mlp, width=8), VaeGan(discriminator_width=2)
    opposed(loss, autoencoder)
    _, terms = loss(autoencoder, batch(), training=True)

    def features(images: tf.Tensor) -> np.ndarray:
        layers = {layer.name: [np.array(w) for w in layer.weights] for layer in loss.discriminator.layers}
        x = np.asarray(images)
        for i in range(1, 5):
            kernel, bias = layers[f"conv_{i}"]
            x = tf.nn.conv2d(x, kernel, 1 if i == 1 else 2, "SAME").numpy() + bias
            if i == 4:
                return x.reshape(len(x), -1)
            if i > 1:
                scale, shift = layers[f"norm_{i}"]
                mean, variance = x.mean(axis=(1, 2, 3), keepdims=True), x.var(axis=(1, 2, 3), keepdims=True)
                x = (x - mean) / np.sqrt(variance + 1e-3) * scale + shift
            x = np.maximum(x, 0)
        raise AssertionError

    z = autoencoder.encode(batch().images).sample(batch().noise)
    difference = features(batch().images) - features(autoencoder.decode(z).mean)
    assert float(terms["features"]) == pytest.approx(0.5 * (difference**2).sum(axis=1).mean(), rel=1e-4)


def test_a_vae_gan_refuses_a_density() -> None:
    autoencoder = build(SHAPE, LATENT, model=mlp, width=8, likelihood=GaussianLikelihood(None, squash_mean=True))
    with pytest.raises(UserError, match=r"takes no likelihood's density: choose likelihood=mse"):
        VaeGan().check(autoencoder)


@pytest.fixture(scope="module")
def patched() -> Autoencoder:
    """An autoencoder for the losses with patches."""
    return build(SHAPE, LATENT, model=mlp, width=8)


def test_the_adversarial_term_counts_from_its_step_on(patched: Autoencoder) -> None:
    loss = PatchGan(None, 0.1, adversarial_from=3, weight_by_gradients=False, discriminator_width=2)
    opposed(loss, patched)
    for step, begun in ((2, 0), (3, 1)):
        losses, terms = loss(patched, batch(step=step), training=True)
        rest = float(terms["reconstruction"]) + 0.1 * float(terms["kl"])
        expected = rest + begun * 0.5 * float(terms["adversarial"])
        assert float(losses[AUTOENCODER]) == pytest.approx(expected, rel=1e-6)
        assert float(losses[DISCRIMINATOR]) == pytest.approx(begun * float(terms["discriminator"]))


@pytest.mark.parametrize("begin", [1, 2])
def test_an_opponent_of_patches_counts_in_training_from_its_step_on_and_in_no_evaluation(begin: int) -> None:
    # Before it is trained its logits say nothing, and later they depend on how strong it is: a test loss with them
    # would not choose the best epoch.
    metrics = two_steps(built("loss=patch_gan", f"loss.adversarial_from={begin}"), compiled=False)
    adversarial = 0.5 * metrics["train/gradient_ratio"] * metrics["train/adversarial"] if begin == 1 else 0.0
    assert metrics["train/loss"] == pytest.approx(metrics["train/reconstruction"] + adversarial, rel=1e-6)
    assert metrics["test/loss"] == metrics["test/reconstruction"]


def test_a_run_that_ends_before_its_opponent_begins_says_so(caplog: pytest.LogCaptureFixture) -> None:
    loss = PatchGan(adversarial_from=30)
    loss.check_steps(31)
    assert not caplog.messages
    loss.check_steps(30)
    said = "The run takes 30 steps, and the discriminator begins at 30: it is not trained at all"
    assert [message.startswith(said) for message in caplog.messages] == [True]


def test_gradients_weigh_the_terms_by_all_last_layers_that_both_depend_on() -> None:
    # The layer of the mixture's logits is the last one in name, and hardly moves the mean.
    experiment = built("loss=patch_gan", "likelihood=logistic_mixture")
    autoencoder, loss = experiment.fused, experiment.loss
    kernels = [layer.kernel.value for layer in experiment.autoencoder.decoder.layers if "pixels" in layer.name]
    assert len(kernels) == 3
    given = batch()
    with tf.GradientTape(persistent=True) as tape:
        _, terms = loss(autoencoder, given, training=True)
    of_error, of_adversary = (tape.gradient(terms[name], kernels) for name in ("reconstruction", "adversarial"))
    both = [pair for pair in zip(of_error, of_adversary, strict=True) if pair[1] is not None]
    assert len(both) > 1
    norms = [np.sqrt(sum(float(tf.reduce_sum(part**2)) for part in of)) for of in zip(*both, strict=True)]
    assert float(terms["gradient_ratio"]) == pytest.approx(norms[0] / (norms[1] + NEAR_ZERO), rel=1e-3)


@pytest.mark.parametrize("adversarial", ["hinge", "non_saturating"])
def test_both_terms_pull_the_last_layer_as_hard_where_gradients_weigh_them(
    adversarial: str, patched: Autoencoder
) -> None:
    loss = PatchGan(adversarial=adversarial, adversarial_weight=2, discriminator_width=2)
    opposed(loss, patched)
    kernel = patched.decoder.get_layer("mean_pixels").kernel
    with tf.GradientTape(persistent=True) as tape:
        losses, terms = loss(patched, batch(), training=True)
    of_error, of_adversary = (tape.gradient(terms[name], kernel) for name in ("reconstruction", "adversarial"))
    # An opponent that is new may have a gradient so small that what keeps the quotient finite is a part of it.
    ratio = float(tf.norm(of_error) / (tf.norm(of_adversary) + NEAR_ZERO))
    assert float(terms["gradient_ratio"]) == pytest.approx(ratio, rel=1e-3)
    # The ratio is a constant for the gradient.
    together = tape.gradient(losses[AUTOENCODER], kernel)
    # Both sides are sums in another order, of gradients of size 1, in float32.
    np.testing.assert_allclose(together, of_error + 2 * ratio * of_adversary, rtol=2e-3, atol=1e-4)


def test_patches_are_of_70_pixels_and_the_last_maps_not_halved() -> None:
    discriminator = discriminators.of_patches((256, 256, 3), 2, 3)
    assert discriminator.output_shape == (None, 32, 32, 1)
    field = 1
    for layer in reversed([layer for layer in discriminator.layers if isinstance(layer, keras.layers.Conv2D)]):
        field = (field - 1) * layer.strides[0] + layer.kernel_size[0]
    assert field == 70


# --- the perceptual term --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with a model of 8×8 images."""
    images = keras.Input(SHAPE)
    x = keras.layers.Conv2D(3, 3, activation="relu", padding="same")(images)
    model = keras.Model(images, keras.layers.Dense(4)(keras.layers.Flatten()(x)))
    path = tmp_path_factory.mktemp("classifier") / "classifier.keras"
    model.save(path)
    return path


@pytest.mark.parametrize("layers", ["all", "last"])
def test_the_perceptual_term_compares_directions_of_features(
    layers: str, classifier: Path, patched: Autoencoder
) -> None:
    loss = PatchGan(
        perceptual_model=str(classifier), perceptual_layers=layers, perceptual_weight=3, weight_by_gradients=False,
        discriminator_width=2,
    )  # fmt: skip
    opposed(loss, patched)
    losses, terms = loss(patched, batch(), training=True)
    assert tuple(terms) == ("perceptual", "reconstruction", "adversarial", "discriminator")
    assert set(loss.terms) == set(terms)
    model = keras.saving.load_model(classifier)

    def directions(images: tf.Tensor) -> list[np.ndarray]:
        of_convolution = model.layers[1](images).numpy()
        features = [of_convolution, model(images).numpy()][-1 if layers == "last" else 0 :]
        return [f / np.sqrt(np.maximum((f**2).sum(axis=-1, keepdims=True), 1e-10)) for f in features]

    z = patched.encode(batch().images).sample(batch().noise)
    pairs = zip(directions(batch().images), directions(patched.decode(z).mean), strict=True)
    expected = sum(((x - y) ** 2).sum(axis=-1).mean() for x, y in pairs)
    assert float(terms["perceptual"]) == pytest.approx(expected, rel=1e-4)
    of_pixels = 3 * 8 * 8 * expected  # once for each pixel, over which the reconstruction is a sum too
    total = float(terms["reconstruction"]) + of_pixels + 0.5 * float(terms["adversarial"])
    assert float(losses[AUTOENCODER]) == pytest.approx(total, rel=1e-5)
    assert not loss.perceptual_error.network.trainable_variables  # type: ignore[union-attr]
