"""What the latent dimensions hold: active units, the ELBO's surgery, total correlation.

All are in nats, of codes in float64. Gaussian posteriors are given by `mean` and `log_var`, `[n, latent]`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp

from vae_runner.errors import UserError, counted

Floats = NDArray[np.float64]

ACTIVE_VARIANCE = 0.01  # of a posterior mean over images (Burda et al., 2016); on fitted dimensions KL = 0.005 nats
SURGERY_SAMPLES = 2000
BLOCK_VALUES = 1 << 18  # of [draws, n]: two megabytes, which stay in a core's cache
SATURATION = 2.0  # nats: mutual information so near to log n is bounded by n; of few images, a quarter of log n


def variance_of_means(mean: ArrayLike) -> Floats:
    """Return A_j, the variance over images of the posterior's mean, `[latent]` (Burda et al., 2016, section 5.2).

    A dimension is *active* where it is above 0.01. Of a well-fitted dimension it is 1 − exp(−2 KL). The variance has
    n − 1 in its denominator.

    Raises:
        UserError: there are fewer than two images, or a mean is NaN.
    """
    return np.var(_checked("active_units", mean), axis=0, ddof=1)


def active_units(mean: ArrayLike, threshold: float = ACTIVE_VARIANCE) -> int:
    """Return how many dimensions have a mean whose variance over images is above the threshold."""
    return int(np.count_nonzero(variance_of_means(mean) > threshold))


@dataclass(frozen=True)
class Surgery:
    """The mean KL term, estimated from draws and cut into three, in nats: kl = MI + TC + DW."""

    kl: float  # E[log q(z|x) − log p(z)] of the draws
    mutual_information: float  # MI = E[log q(z|x) − log q(z)], of image and z; at most log n
    total_correlation: float  # TC = KL(q(z) ‖ Π q(z_j))
    dimension_wise_kl: float  # DW = Σ_j KL(q(z_j) ‖ p(z_j))
    dimensions: Floats  # KL(q(z_j) ‖ p(z_j)), [latent]
    log_n: float  # the most that MI can be
    samples: int
    standard_error: float  # of MI, over draws

    @property
    def marginal_kl(self) -> float:
        """Return KL(q(z) ‖ p(z)) = TC + DW: how far the aggregate posterior is from the prior."""
        return self.total_correlation + self.dimension_wise_kl

    @property
    def is_saturated(self) -> bool:
        """Return whether MI is near log n: then it is a lower bound, and TC an upper one."""
        return self.mutual_information > self.log_n - min(SATURATION, self.log_n / 4)


def elbo_surgery(
    mean: Floats,
    log_var: Floats,
    samples: int = SURGERY_SAMPLES,
    seed: int = 0,
    *,
    log_prior: Callable[[Floats], Floats] | None = None,
    report: Callable[[float], None] = lambda done: None,
) -> Surgery:
    """Return mutual information, total correlation and dimension-wise KL of Gaussian posteriors.

    Hoffman & Johnson, 2016, "ELBO surgery". q(z) is the mean of all n posteriors. Of `samples` draws, each of another
    image as long as there are any, every z is held against all n components, its own included (Chen et al., 2018,
    `elbo_decomposition.py` of beta-tcvae, which takes 10,000 draws). Estimates from the batches of training differ by
    tens of nats, and are no numbers to report. `log_prior` returns log p(z_j) of draws `[draws, latent]`; by default it
    is the standard normal's.

    Raises:
        UserError: there are fewer than two images, or a parameter is NaN.
    """
    mean, log_var = _checked("mutual_information", mean), _checked("mutual_information", log_var)
    n, latent = mean.shape
    rng = np.random.default_rng(seed)
    chosen = np.concatenate([rng.permutation(n) for _ in range(-(-samples // n))])[:samples]
    deviation = np.exp(log_var / 2)
    z = mean[chosen] + deviation[chosen] * rng.standard_normal((len(chosen), latent))
    joint, marginals = np.empty(len(chosen)), np.empty((len(chosen), latent))
    inverse, constant = 1 / deviation, -0.5 * (math.log(2 * math.pi) + log_var)
    block = max(BLOCK_VALUES // n, 1)
    for first in range(0, len(chosen), block):
        report(first / len(chosen))
        part = slice(first, first + block)
        total = np.zeros((len(z[part]), n))
        for j in range(latent):
            log_q = (z[part, j, np.newaxis] - mean[:, j]) * inverse[:, j]
            np.square(log_q, out=log_q)
            log_q *= -0.5
            log_q += constant[:, j]
            total += log_q
            marginals[part, j] = _log_mean_exp(log_q)
        joint[part] = _log_mean_exp(total)
    report(1.0)
    conditional = np.sum(constant[chosen] - 0.5 * np.square((z - mean[chosen]) * inverse[chosen]), axis=1)
    prior = -0.5 * (math.log(2 * math.pi) + np.square(z)) if log_prior is None else log_prior(z)
    information = conditional - joint
    dimensions = np.mean(marginals - prior, axis=0)
    return Surgery(
        kl=float(np.mean(conditional - prior.sum(axis=1))),
        mutual_information=float(np.mean(information)),
        total_correlation=float(np.mean(joint - marginals.sum(axis=1))),
        dimension_wise_kl=float(dimensions.sum()),
        dimensions=dimensions,
        log_n=math.log(n),
        samples=len(chosen),
        standard_error=float(np.std(information, ddof=1) / math.sqrt(len(chosen))) if len(chosen) > 1 else math.nan,
    )


def is_constant(codes: Floats) -> NDArray[np.bool_]:
    """Return which dimensions of codes `[n, latent]` are the same for every image but for rounding, `[latent]`."""
    scale = np.maximum(np.abs(codes).max(axis=0), np.finfo(np.float64).tiny)
    constant: NDArray[np.bool_] = np.std(codes, axis=0) <= 1e-12 * scale
    return constant


def gaussian_total_correlation(codes: ArrayLike, noise: ArrayLike = 0.0) -> float:
    """Return ½ (Σ log Σ_jj − log |Σ|) of the covariance of codes `[n, latent]`, in nats.

    With the variances of independent `noise` that is added to them, `[n, latent]`, it is that of their sum: of draws of
    Gaussian posteriors, which are their means and noise, without drawing any.

    It is the total correlation of a Gaussian with that covariance (disentanglement_lib's unsupervised scores, of 10,000
    codes). Of *sampled* codes it falls as β grows, while of *mean* codes it can rise: show both. Dimensions are scaled
    first, which changes nothing, so that one with a small variance counts like any other. Of n codes of d independent
    dimensions it is about d (d − 1) / 4n, and not 0.

    Raises:
        UserError: a dimension is constant, or one is a linear function of others.
    """
    codes = _checked("gaussian_total_correlation", codes)
    if constant := 0 if np.any(noise) else int(np.count_nonzero(is_constant(codes))):
        raise UserError(
            f"gaussian_total_correlation: {constant} of {codes.shape[1]} latent dimensions are the same for every "
            "image, and have no correlation: leave them out, or take sampled codes"
        )
    covariance = np.atleast_2d(np.cov(codes, rowvar=False)) + np.diag(
        np.mean(np.broadcast_to(noise, codes.shape), axis=0)
    )
    deviations = np.sqrt(np.diag(covariance))
    sign, log_det = np.linalg.slogdet(covariance / np.outer(deviations, deviations))
    if sign <= 0 or not math.isfinite(log_det):
        raise UserError(
            f"gaussian_total_correlation of {len(codes)} images: one of the {codes.shape[1]} latent dimensions is a "
            "linear function of the others: give more images than dimensions, or take sampled codes"
        )
    return max(-0.5 * float(log_det), 0.0)


def _log_mean_exp(values: Floats) -> Floats:
    """Return the logarithm of the mean over the second axis."""
    return np.asarray(logsumexp(values, axis=1)) - math.log(values.shape[1])


def _checked(metric: str, values: ArrayLike) -> Floats:
    """Return codes as float64 `[n, latent]`.

    Raises:
        UserError: there are fewer than two, or one is NaN or infinite.
    """
    codes = np.asarray(values, np.float64)
    if len(codes) < 2:
        raise UserError(f"{metric} of {counted(len(codes), 'image')}: a spread over images needs at least two")
    if not np.isfinite(codes).all():
        raise UserError(
            f"{metric}: a number of an embedding is NaN or infinite: the network's weights are NaN; evaluate an "
            "earlier checkpoint"
        )
    return codes
