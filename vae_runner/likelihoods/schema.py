"""The likelihoods that a run can choose, with their keys."""

from dataclasses import dataclass

from vae_runner.config.keys import Mixed, key
from vae_runner.config.registry import Built, Component
from vae_runner.errors import UserError


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

    scale: Mixed[float | str | None] = key(None, above=0, unit="of an image in [0, 1]")

    def check(self) -> None:
        """Refuse a scale that is neither a number nor "optimal" nor null."""
        if type(self.scale) not in (int, float) and self.scale not in (None, "optimal"):
            raise UserError(f"likelihood.scale={self.scale}: must be a number above 0, optimal or null")


@dataclass
class LogisticMixtureConfig(Built):
    """The keys of a mixture."""

    components: int = key(10, minimum=1, maximum=1000)


MEAN = frozenset({"mean"})
DENSITY = frozenset({"density"})


def _error(name: str, place: str) -> Component:
    """Return the entry of a likelihood that is no density; `place` is its module and class in this room."""
    return Component("likelihood", name, f"vae_runner.likelihoods.{place}", gives=MEAN | {"error"})


def _density(
    name: str, place: str, schema: type[Built] = Built, shown: str = "", gives: frozenset[str] = DENSITY | MEAN
) -> Component:
    """Return the entry of a likelihood that is a density; `place` is its module and class in this room."""
    return Component("likelihood", name, f"vae_runner.likelihoods.{place}", schema, shown, gives)


COMPONENTS = (
    _error("mse", "mse.MeanSquaredError"),
    _error("cross_entropy", "cross_entropy.CrossEntropy"),
    _error("ms_ssim", "ms_ssim.MsSsim"),
    _density("gaussian", "gaussian.Gaussian", SharedScaleConfig, "scale"),
    _density("gaussian_per_pixel", "gaussian_per_pixel.GaussianPerPixel", PixelScaleConfig),
    _density("bernoulli", "bernoulli.Bernoulli"),
    _density("continuous_bernoulli", "continuous_bernoulli.ContinuousBernoulli", ContinuousBernoulliConfig),
    _density("laplace", "laplace.Laplace", SharedScaleConfig, "scale"),
    _density("student_t", "student_t.StudentT", PixelScaleConfig),
    _density("discretized_gaussian", "discretized_gaussian.DiscretizedGaussian", PixelScaleConfig),
    _density("discretized_logistic", "discretized_logistic.DiscretizedLogistic", PixelScaleConfig),
    _density("logistic_mixture", "logistic_mixture.LogisticMixture", LogisticMixtureConfig, "components"),
    _density("categorical", "categorical.Categorical", gives=DENSITY),
)
