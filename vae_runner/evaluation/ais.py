"""Annealed importance sampling, a check of the importance-weighted bound that does not use the encoder.

Wu et al., 2017, "On the quantitative analysis of decoder-based generative models". A chain goes from p(z) to p(z|x)
along p_t(z) ∝ p(z) p(x|z)^β_t. Each step adds (β_t − β_{t−1}) log p(x|z) to the logarithm of its weight, and then moves
z by Hamiltonian Monte Carlo that leaves p_t as it is. The logarithm of the mean weight is a lower bound on log p(x) in
expectation, but for one thing: the step size of an image's chains is adapted to the acceptances of these same chains,
as in Wu et al.'s code, so that a step does not leave p_t exactly as it is, and the bound is approximate. It is exact
with step sizes that were chosen before. On probabilistic PCA of 16 pixels, with 16 chains, it is too low by 4 nats at
10 steps, 0.4 at 50, 0.09 at 200 and less than 0.04 at 1000. Step sizes are adapted faster than in Wu et al.'s code,
whose first one, 0.01, grows by 2 % a step: that is too low by 1.2 at 200.

Wu et al. use 10,000 steps, 16 chains and 10 leapfrog steps, on up to 100 images; a step has the cost of 11 passes
through the decoder, forward and back, for each image and chain.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Images
from vae_runner.distributions.sphere import UniformOnSphere
from vae_runner.errors import UserError
from vae_runner.evaluation.embeddings import Labels, batch_size_for
from vae_runner.evaluation.likelihood import MAX_ROWS, CounterNoise, RunningWeights, check_likelihood_density
from vae_runner.models.autoencoder import Autoencoder, to_unit_interval
from vae_runner.posteriors.base import CodePosterior

Floats = NDArray[np.float64]
Rows = NDArray[np.generic]  # [images · chains, …], those of an image one after the other

FIRST_STEP_SIZE, SMALLEST_STEP_SIZE, LARGEST_STEP_SIZE = 0.1, 1e-4, 1.0  # of leapfrog, in units of z
ACCEPTANCE = 0.9  # of an image's chains, that the step size is adapted to
GROWTH, SHRINKAGE = 1.05, 0.9  # of the step size after a step that was above or below that


@dataclass(frozen=True)
class Annealed:
    """Estimates of log p(x) by annealed importance sampling."""

    log_likelihood: Floats  # [n], in nats; approximately lower bounds in expectation
    effective_chains: Floats  # (Σ w)² / Σ w² of each image, from 1 to the number of chains
    acceptance: float  # the mean over images, chains and steps
    steps: int
    chains: int


def inverse_temperatures(steps: int) -> Floats:
    """Return β_0 = 0 … β_steps = 1: a sigmoid of equally spaced numbers from −4 to 4, brought to [0, 1]."""
    curve = 1 / (1 + np.exp(-np.linspace(-4, 4, steps + 1)))
    return (curve - curve[0]) / (curve[-1] - curve[0])


def annealed_importance_sampling(
    autoencoder: Autoencoder,
    pixels: Images,
    labels: Labels = None,
    *,
    steps: int = 1000,
    chains: int = 16,
    leapfrog_steps: int = 10,
    seed: int = 0,
    rows: int | None = None,
    report: Callable[[float], None] = lambda done: None,
) -> Annealed:
    """Return estimates of log p(x) of a few uint8 images `[n, height, width, channels]`.

    Chains of an image share a step size, which is adapted to their acceptance. `rows` chains, of whichever images, are
    moved at once; the noise does not depend on it, and the estimate not on what other images there are.

    Raises:
        UserError: the likelihood has no density, or latents are codes or on a sphere, where no such chain can go.
    """
    check_likelihood_density(autoencoder, "ais")
    if not autoencoder.classes:
        labels = None
    elif labels is None:
        raise UserError("ais: this run depends on labels, and these images have none")
    count = len(pixels)
    if count == 0 or chains < 1 or steps < 1:
        raise UserError(f"ais of {count} images with {chains} chains and {steps} steps: all must be at least 1")
    rows = rows or batch_size_for(autoencoder, MAX_ROWS)
    places = np.repeat(np.arange(count), chains)
    images = tf.constant(np.asarray(pixels))
    classes = None if labels is None else tf.constant(labels, tf.int64)
    prior = autoencoder.latent_prior(None if classes is None else tf.repeat(classes, chains))
    if isinstance(autoencoder.posterior, CodePosterior) or isinstance(prior, UniformOnSphere):
        raise UserError(
            f"ais moves z in a vector space, and {type(autoencoder.posterior).__name__} has codes or a sphere: see "
            "log_likelihood"
        )

    def log_likelihood_of(z: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
        """Return log p(x|z) of the images at `places`."""
        of = None if classes is None else tf.gather(classes, places)
        return -autoencoder.decode(z, of).error(to_unit_interval(tf.gather(images, places)))

    def tempered(z: tf.Tensor, places: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return log p(z) + β log p(x|z), its gradient, and log p(x|z)."""
        of = prior if classes is None else autoencoder.latent_prior(tf.gather(classes, places))
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(z)
            log_likelihood = log_likelihood_of(z, places)
            value = of.log_prob(z) + beta * log_likelihood
        return value, tape.gradient(value, z), log_likelihood

    @tf.function(autograph=False)
    def transition(
        z: tf.Tensor, places: tf.Tensor, beta: tf.Tensor, size: tf.Tensor, velocity: tf.Tensor, threshold: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        """Return z after a trajectory, log p(x|z) there, and which chains have moved."""
        size = size[:, tf.newaxis]
        first, gradient, log_likelihood = tempered(z, places, beta)
        energy = first - 0.5 * tf.reduce_sum(tf.square(velocity), axis=1)

        def leapfrog(
            moved: tf.Tensor, velocity: tf.Tensor, gradient: tf.Tensor, *_: tf.Tensor
        ) -> tuple[tf.Tensor, ...]:
            velocity += 0.5 * size * gradient
            moved += size * velocity
            last, gradient, log_likelihood_moved = tempered(moved, places, beta)
            return moved, velocity + 0.5 * size * gradient, gradient, last, log_likelihood_moved

        begin = (z, velocity, gradient, first, log_likelihood)
        moved, velocity, _, last, log_likelihood_moved = tf.while_loop(
            lambda *_: True, leapfrog, begin, maximum_iterations=leapfrog_steps
        )
        # A trajectory that ends where the density is NaN is not accepted: a comparison with NaN is false.
        accepted = threshold < last - 0.5 * tf.reduce_sum(tf.square(velocity), axis=1) - energy
        z = tf.where(accepted[:, tf.newaxis], moved, z)
        return z, tf.where(accepted, log_likelihood_moved, log_likelihood), accepted

    def by_rows(function: Callable[..., tuple[tf.Tensor, ...]], *arrays: Rows) -> list[Rows]:
        """Return what a function returns of arrays `[images · chains, …]`, of which it is given `rows` at a time."""
        results = []
        for start in range(0, len(places), rows):
            # There is one compiled function for all, so the last chains are repeated until there are enough.
            chosen = np.minimum(np.arange(start, start + rows), len(places) - 1)
            results.append(function(*(tf.constant(array[chosen]) for array in arrays)))
        return [np.concatenate(parts)[: len(places)] for parts in zip(*results, strict=True)]

    betas, noise = inverse_temperatures(steps), CounterNoise(seed, range(count), 0, chains)
    z = np.asarray(prior.sample(noise))
    compiled = tf.function(lambda z, places: (log_likelihood_of(z, places),), autograph=False)
    (log_likelihood,) = by_rows(compiled, z, places)
    log_w = np.zeros((count, chains))
    step_size, accepted_in_all = np.full(count, FIRST_STEP_SIZE), 0.0
    for step in range(1, steps + 1):
        report((step - 1) / steps)
        log_w += (betas[step] - betas[step - 1]) * log_likelihood.astype(np.float64).reshape(count, chains)
        if step == steps:
            break
        beta, size = (of.astype(np.float32) for of in (np.full(len(places), betas[step]), step_size[places]))
        velocity, threshold = noise.normal(z.shape[1:]), tf.math.log(noise.uniform([]))
        arguments = z, places, beta, size, velocity.numpy(), threshold.numpy()
        z, log_likelihood, accepted = by_rows(transition, *arguments)
        of_images = accepted.reshape(count, chains).mean(axis=1)
        accepted_in_all += of_images.mean() / (steps - 1)
        step_size *= np.where(of_images > ACCEPTANCE, GROWTH, SHRINKAGE)
        step_size = np.clip(step_size, SMALLEST_STEP_SIZE, LARGEST_STEP_SIZE)
    report(1.0)
    weights = RunningWeights()
    weights.add(log_w.T)
    return Annealed(weights.log_likelihood, weights.effective_samples, accepted_in_all, steps, chains)
