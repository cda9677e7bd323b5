"""The likelihoods that a run can choose, with their keys."""

from dataclasses import dataclass

from vae_runner.config.keys import key
from vae_runner.config.registry import Built, Component


@dataclass
class ContinuousBernoulliConfig(Built):
    """The continuous Bernoulli's keys."""

    max_logit: float = key(15.0, above=0)


@dataclass
class PixelScaleConfig(Built):
    """The keys of a likelihood with a scale for each pixel."""

    squash_mean: bool = True


@dataclass
class SharedScaleConfig(PixelScaleConfig):
    """The keys of a likelihood with one scale for all pixels."""

    scale: float | None = key(None, above=0, unit="of an image in [0, 1]")


@dataclass
class LogisticMixtureConfig(Built):
    """The keys of a mixture."""

    components: int = key(10, minimum=1, maximum=1000)


COMPONENTS = (
    Component("likelihood", "mse", "vae_runner.likelihoods.mse.MeanSquaredError"),
    Component("likelihood", "cross_entropy", "vae_runner.likelihoods.cross_entropy.CrossEntropy"),
    Component("likelihood", "gaussian", "vae_runner.likelihoods.gaussian.Gaussian", SharedScaleConfig, ("scale",)),
    Component(
        "likelihood", "gaussian_per_pixel", "vae_runner.likelihoods.gaussian_per_pixel.GaussianPerPixel",
        PixelScaleConfig,
    ),
    Component("likelihood", "bernoulli", "vae_runner.likelihoods.bernoulli.Bernoulli"),
    Component(
        "likelihood", "continuous_bernoulli", "vae_runner.likelihoods.continuous_bernoulli.ContinuousBernoulli",
        ContinuousBernoulliConfig,
    ),
    Component("likelihood", "laplace", "vae_runner.likelihoods.laplace.Laplace", SharedScaleConfig, ("scale",)),
    Component("likelihood", "student_t", "vae_runner.likelihoods.student_t.StudentT", PixelScaleConfig),
    Component(
        "likelihood", "discretized_gaussian", "vae_runner.likelihoods.discretized_gaussian.DiscretizedGaussian",
        PixelScaleConfig,
    ),
    Component(
        "likelihood", "discretized_logistic", "vae_runner.likelihoods.discretized_logistic.DiscretizedLogistic",
        PixelScaleConfig,
    ),
    Component(
        "likelihood", "logistic_mixture", "vae_runner.likelihoods.logistic_mixture.LogisticMixture",
        LogisticMixtureConfig, ("components",),
    ),
    Component("likelihood", "categorical", "vae_runner.likelihoods.categorical.Categorical"),
)  # fmt: skip
