"""Importance-weighted log-likelihood, ELBO and bits per dimension.

log p(x) is bounded from below by L_K = log 1/K Σ w_k with w_k = p(x|z_k) p(z_k) / q(z_k|x) and z_k drawn from q(z|x)
(Burda et al., 2016, "Importance weighted autoencoders", equation 8). E[L_K] rises with K, and L_1 is the ELBO with its
KL term estimated from the same draws. The bias is about −Var(w) / (2K p(x)²).

Public implementations differ: pythae's `get_nll` returns the mean of +log p, rounds the number of draws to a multiple
of its batch size, and takes σ = 1 for mean squared errors. Some take the mean of logarithms for the logarithm of the
mean, or leave out ½ D log 2πσ² of a Gaussian likelihood. Here a likelihood is a density with all its constants, or
there is no number.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from scipy.special import ndtri

from vae_runner.acceleration.fuse import fuse
from vae_runner.datasets.dataset import Images
from vae_runner.distributions.base import Distribution
from vae_runner.distributions.divergence import kl_divergence
from vae_runner.distributions.gaussian import DiagonalGaussian
from vae_runner.errors import UserError
from vae_runner.evaluation.embeddings import Labels, batch_size_for
from vae_runner.likelihoods.base import Likelihood, PixelParameter
from vae_runner.models.autoencoder import Autoencoder
from vae_runner.training.noise import Draws, GivenNoise, Request, RequestedNoise

Floats = NDArray[np.float64]

MAX_ROWS = 256  # latents that are decoded at once: beyond, a decoder is no faster, and needs more memory
FITTED_IMAGES = 1000  # training images: enough to fit one σ to
TIGHT_SHARE = 0.5  # of the largest weight in the sum: where the median is above, a few draws decide L_K
DEQUANTIZATION = 1 << 32  # the number of the draw that dequantises; z is drawn with those from 0


@dataclass(frozen=True)
class Bounds:
    """Bounds on log p(x) of images, in nats; each array is float64 `[n]`."""

    samples: int  # K
    log_likelihood: Floats  # L_K
    rate: Floats  # KL(q(z|x) ‖ p(z)): its closed form, or else the mean over draws
    distortion: Floats  # the mean over draws of −log p(x|z)
    effective_samples: Floats  # (Σ w)² / Σ w², from 1 to K
    largest_share: Floats  # of the largest weight in Σ w

    @property
    def elbo(self) -> Floats:
        """Return the ELBO at β = 1."""
        return -(self.rate + self.distortion)

    @property
    def is_tight(self) -> bool:
        """Return whether one draw has less than half of Σ w for most images; else L_K would rise with K."""
        return self.samples > 1 and float(np.median(self.largest_share)) <= TIGHT_SHARE


class RunningWeights:
    """Sums over importance weights of images that arrive in chunks of draws; memory does not depend on K."""

    def __init__(self) -> None:
        self._sum = self._squares = self._largest = np.array(-np.inf)
        self._samples = 0

    def add(self, log_w: Floats) -> None:
        """Add log-weights `[draws, n]`, in nats.

        Raises:
            UserError: one is NaN or infinite, which no density gives.
        """
        log_w = np.asarray(log_w, np.float64)
        if np.isnan(log_w).any() or np.isposinf(log_w).any():
            raise UserError(
                "log_likelihood: an importance weight is NaN or infinite: the network's weights are NaN, or far too "
                "large; evaluate an earlier checkpoint, or train with a lower optimizer.learning_rate"
            )
        self._sum = np.logaddexp(self._sum, np.logaddexp.reduce(log_w, axis=0))
        self._squares = np.logaddexp(self._squares, np.logaddexp.reduce(2 * log_w, axis=0))
        self._largest = np.maximum(self._largest, log_w.max(axis=0))
        self._samples += len(log_w)

    @property
    def log_likelihood(self) -> Floats:
        """Return L_K, `[n]`; −inf where all weights are 0."""
        return self._sum - math.log(self._samples)

    @property
    def effective_samples(self) -> Floats:
        """Return (Σ w)² / Σ w², `[n]`; 0 where all weights are 0."""
        return self._ratio(2.0, self._squares)

    @property
    def largest_share(self) -> Floats:
        """Return the largest weight's share of Σ w, `[n]`; 1 where all weights are 0."""
        return np.where(np.isneginf(self._sum), 1.0, 1 / np.maximum(self._ratio(1.0, self._largest), 1.0))

    def _ratio(self, power: float, log_denominator: Floats) -> Floats:
        """Return (Σ w)^power / exp(log_denominator); 0 where all weights are 0."""
        empty = np.isneginf(self._sum)
        difference = power * np.where(empty, 0.0, self._sum) - np.where(empty, 0.0, log_denominator)
        return np.where(empty, 0.0, np.exp(difference))


def standard_error(values: Floats) -> float:
    """Return the standard error of the mean over images; NaN for one image."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan


def bits_per_dimension(log_likelihood: Floats, dimensions: int, measure: str) -> Floats:
    """Return −log p(x) / (D log 2) in bits, of images with D numbers from 256 levels, or 2: float64 `[n]`.

    `measure` is that of the likelihood. A density on the unit interval must be of dequantised images (255 x + u) / 256:
    there are 256 levels on the interval, and so it has log₂ 256 = 8 bits more than the mass of a level. Without u a
    density at the levels themselves is without bound.
    """
    bits = -log_likelihood / (dimensions * math.log(2))
    return bits + 8.0 if measure == "unit interval" else bits


def effective_beta(dimensions: int, sigma: float, weight: float) -> float:
    """Return the β of a β-VAE with the fitted σ that a weight of the mean squared error amounts to: D / (2 σ² weight).

    A weight is a choice of β, not a claim about the likelihood: it takes σ² = D / (2 weight), on the scale [0, 1].
    """
    return dimensions / (2 * sigma**2 * weight)


class CounterNoise(Draws):
    """Noise that is a function of (seed, number of the draw, image, sample, coordinate) alone.

    So it does not depend on how images and samples are cut into batches. The rows are images, each `samples` times in a
    row. Philox (Salmon et al., 2011, "Parallel random numbers") is its own counter: the draw and the image are its
    upper words, and sample and coordinate the lowest one.
    """

    def __init__(self, seed: int, images: Sequence[int], first: int, samples: int) -> None:
        """Make noise for images by their places in a split, and samples from `first` on."""
        self._seed, self._images, self._first, self._samples = seed, images, first, samples
        self._count = 0

    def draw(self, request: Request) -> tf.Tensor:
        """Return the next draw, float32 `[images · samples, *shape]`."""
        numbers = self.numbers(self._count, request[1])
        self._count += 1
        # A float32 has 24 bits: rounding to nearest would make 1 of uniform numbers.
        values = ndtri(numbers + 2.0**-54) if request[0] == "normal" else np.floor(numbers * 2**24) / 2**24
        return tf.constant(values.astype(np.float32))

    def numbers(self, draw: int, shape: Sequence[int]) -> Floats:
        """Return uniform numbers in [0, 1), multiples of 2⁻⁵³: float64 `[images · samples, *shape]`."""
        size = math.prod(shape)
        blocks = -(-size // 4)  # Philox makes four numbers of each value of its counter
        values = np.empty((len(self._images), self._samples, 4 * blocks))
        key = np.array([self._seed, 0], np.uint64)
        for place, image in enumerate(self._images):
            counter = np.array([self._first * blocks, image, draw, 0], np.uint64)
            np.random.Generator(np.random.Philox(key=key, counter=counter)).random(out=values[place])
        return values[..., :size].reshape(-1, *shape)


class FittedGaussian(Likelihood):
    """N(mean, σ² I) around the means of a likelihood that is no density, with one σ."""

    measure = "unit interval"

    def __init__(self, base: Likelihood, sigma: float) -> None:
        self._base, self._log_var = base, 2 * math.log(sigma)

    def parameters(self, channels: int) -> dict[str, PixelParameter]:
        """Return what the decoder gives anyway."""
        return self._base.parameters(channels)

    def distribution(self, parameters: Mapping[str, tf.Tensor]) -> DiagonalGaussian:
        """Return the Gaussians of a batch."""
        return DiagonalGaussian(self._base.distribution(parameters).mean, tf.constant(self._log_var, tf.float32))


def check_posterior_density(autoencoder: Autoencoder, metric: str) -> None:
    """Refuse an autoencoder whose posterior has no density.

    Raises:
        UserError: it has none.
    """
    if not autoencoder.posterior.has_density:
        raise UserError(
            f"{metric} needs the density q(z|x), and {type(autoencoder.posterior).__name__} has none: train with "
            "posterior=gaussian or another with a density"
        )


def check_likelihood_density(autoencoder: Autoencoder, metric: str) -> None:
    """Refuse an autoencoder whose likelihood is an error with a weight.

    Raises:
        UserError: it has no density.
    """
    if autoencoder.likelihood.measure is None:
        raise UserError(
            f"{metric} needs a density p(x|z), and {type(autoencoder.likelihood).__name__} is an error with a weight: "
            "train with likelihood=gaussian or bernoulli, or see bits_per_dim[sigma=fitted], which fits a σ to it"
        )


def log_likelihood(
    autoencoder: Autoencoder,
    pixels: Images,
    labels: Labels = None,
    *,
    samples: int = 100,
    seed: int = 0,
    dequantize: bool = False,
    rows: int | None = None,
    report: Callable[[float], None] = lambda done: None,
) -> Bounds:
    """Return L_K with K = `samples`, rate and distortion of uint8 images `[n, height, width, channels]`.

    With `dequantize` they are those of (255 x + u) / 256, u uniform in [0, 1), as bits per dimension need for a density
    on the unit interval. `rows` latents are decoded at once; the noise does not depend on it. `report` is called with
    the fraction done.

    Raises:
        UserError: posterior or likelihood has no density, or an importance weight is NaN.
    """
    check_posterior_density(autoencoder, "log_likelihood")
    check_likelihood_density(autoencoder, "log_likelihood")

    def terms(draw: Draw) -> list[tf.Tensor]:
        error = tf.cast(draw.likelihood_error, tf.float64)
        log_prior = tf.cast(draw.prior.log_prob(draw.z), tf.float64)
        log_posterior = tf.cast(draw.posterior.log_prob(draw.z), tf.float64)
        kl = kl_divergence(draw.posterior, draw.prior, draw.z)
        return [log_prior - log_posterior - error, tf.cast(kl, tf.float64), error]

    parts: list[tuple[Floats, ...]] = []
    for chunks in draws_of(autoencoder, pixels, labels, terms, samples, seed, dequantize, rows, report):
        weights = RunningWeights()
        rate = distortion = np.zeros(1)
        for log_w, kl, error in chunks:
            weights.add(log_w.T)
            rate = rate + kl.sum(axis=1) / samples
            distortion = distortion + error.sum(axis=1) / samples
        sums = rate, distortion
        parts.append((weights.log_likelihood, *sums, weights.effective_samples, weights.largest_share))
    return Bounds(samples, *(np.concatenate(part) for part in zip(*parts, strict=True)))


def with_fitted_sigma(
    autoencoder: Autoencoder,
    pixels: Images,
    labels: Labels = None,
    *,
    seed: int = 0,
    report: Callable[[float], None] = lambda done: None,
) -> tuple[Autoencoder, float]:
    """Return the autoencoder with a Gaussian likelihood around its means, and the σ of that, on the scale [0, 1].

    σ² is the mean squared error over uint8 training images, dequantised, with one draw of z each: at it the ELBO is
    greatest for the networks as they are (Rybkin et al., 2021, section 4.2).
    """

    def terms(draw: Draw) -> list[tf.Tensor]:
        difference = tf.math.squared_difference(draw.images, draw.mean)
        return [tf.cast(tf.reduce_mean(difference, axis=[1, 2, 3]), tf.float64)]

    chunks = draws_of(autoencoder, pixels, labels, terms, 1, seed, True, None, report)
    squares = np.concatenate([error[:, 0] for batch in chunks for (error,) in batch])
    sigma = math.sqrt(max(float(squares.mean()), 1e-14))
    if not math.isfinite(sigma):
        raise UserError("bits_per_dim[sigma=fitted]: reconstructions are NaN: evaluate an earlier checkpoint")
    return replace(autoencoder, likelihood=FittedGaussian(autoencoder.likelihood, sigma)), sigma


@dataclass(frozen=True)
class Draw:
    """Draws of z, decoded; a row is one draw of one image."""

    autoencoder: Autoencoder
    posterior: Distribution
    prior: Distribution
    z: tf.Tensor  # [rows, latent]
    images: tf.Tensor  # float32 [rows, height, width, channels]
    labels: tf.Tensor | None

    @property
    def mean(self) -> tf.Tensor:
        """Return the decoded images, `[rows, height, width, channels]`."""
        return self.autoencoder.decode(self.z, self.labels).mean

    @property
    def likelihood_error(self) -> tf.Tensor:
        """Return −log p(x|z), `[rows]`."""
        return self.autoencoder.decode(self.z, self.labels).error(self.images)


def draws_of(
    autoencoder: Autoencoder,
    pixels: Images,
    labels: Labels,
    compute: Callable[[Draw], list[tf.Tensor]],
    samples: int,
    seed: int,
    dequantize: bool,
    rows: int | None,
    report: Callable[[float], None],
) -> Iterator[Iterator[tuple[Floats, ...]]]:
    """Yield for each batch of images its chunks of draws: of each what `compute` returns, as `[images, draws]`.

    Images are encoded once. All batches and chunks have one shape, so that there is one compiled function, and the last
    ones repeat an image or take draws that are thrown away.
    """
    count = len(pixels)
    if count == 0 or samples < 1:
        raise UserError(f"log_likelihood of {count} images with {samples} samples: both must be at least 1")
    rows = rows or batch_size_for(autoencoder, MAX_ROWS)
    chunks = -(-samples // rows)
    chunk = -(-samples // chunks)
    batch = max(min(rows // chunk, count), 1)
    faster = replace(autoencoder, encoder=fuse(autoencoder.encoder), decoder=fuse(autoencoder.decoder))
    if not faster.classes:
        labels = None
    fixed_prior = None if faster.classes else autoencoder.latent_prior()
    encode = tf.function(faster.parameters, autograph=False)

    @tf.function(autograph=False)
    def step(
        parameters: dict[str, tf.Tensor], images: tf.Tensor, labels: tf.Tensor | None, draws: list[tf.Tensor]
    ) -> list[tf.Tensor]:
        repeated = {name: tf.repeat(value, chunk, axis=0) for name, value in parameters.items()}
        labels = None if labels is None else tf.repeat(labels, chunk, axis=0)
        posterior = faster.posterior.distribution(repeated)
        z = posterior.sample(GivenNoise(draws))
        prior = faster.latent_prior(labels) if fixed_prior is None else fixed_prior
        values = compute(Draw(faster, posterior, prior, z, tf.repeat(images, chunk, axis=0), labels))
        return [tf.reshape(value, [batch, chunk]) for value in values]

    def chunks_of(places: NDArray[np.int64], kept: int) -> Iterator[tuple[Floats, ...]]:
        images = tf.constant(_unit_interval(pixels, places, seed if dequantize else None))
        given = None if labels is None else tf.constant(np.asarray(labels)[places], tf.int64)
        parameters = encode(images, given)
        requests = _requests(autoencoder, parameters)
        for first in range(0, samples, chunk):
            noise = CounterNoise(seed, places.tolist(), first, chunk)
            values = step(parameters, images, given, [noise.draw(request) for request in requests])
            yield tuple(value.numpy()[:kept, : samples - first] for value in values)

    for start in range(0, count, batch):
        report(start / count)
        yield chunks_of(np.minimum(np.arange(start, start + batch), count - 1), min(batch, count - start))
    report(1.0)


def _requests(autoencoder: Autoencoder, parameters: Mapping[str, tf.Tensor]) -> list[Request]:
    """Return which numbers the posterior asks of the noise to draw z."""
    recorder = RequestedNoise(tf.constant(1))
    autoencoder.posterior.distribution({name: value[:1] for name, value in parameters.items()}).sample(recorder)
    return recorder.requests


def _unit_interval(pixels: Images, places: NDArray[np.int64], seed: int | None) -> NDArray[np.float32]:
    """Return the images at `places` as float32 in [0, 1]; with a seed dequantised, (255 x + u) / 256."""
    images = np.asarray(pixels[np.unique(places)])[np.searchsorted(np.unique(places), places)]
    if seed is None:
        return images.astype(np.float32) / np.float32(255)
    noise = CounterNoise(seed, places.tolist(), 0, 1).numbers(DEQUANTIZATION, images.shape[1:])
    return ((images + noise) / 256).astype(np.float32)
