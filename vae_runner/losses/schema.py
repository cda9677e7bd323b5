"""The losses that a run can choose, with their keys."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vae_runner.config.composition import CLASSIFIER
from vae_runner.config.keys import key
from vae_runner.config.registry import Built, Component, Lack, Need
from vae_runner.errors import UserError


@dataclass
class ReconstructionConfig(Built):
    """The keys of a loss with a reconstruction term."""

    reconstruction_weight: float | None = key(None, minimum=0)

    def needs(self) -> Iterator[Need]:
        """Yield that only an error is weighed: the weight of a density is 1."""
        if self.reconstruction_weight not in (None, 1):
            yield Need("reconstruction_weight", "likelihood", "error")


@dataclass
class AeConfig(ReconstructionConfig):
    """The plain autoencoder's loss."""

    noise_scale: float = key(0.0, minimum=0, unit="of an image in [0, 1]")
    contractive_weight: float = key(0.0, minimum=0)
    sparsity_weight: float = key(0.0, minimum=0)
    sparsity_target: float | None = key(None, above=0, below=1)

    def check(self) -> None:
        """Refuse a target that would have no effect."""
        if self.sparsity_target is not None and not self.sparsity_weight:
            raise UserError("loss.sparsity_target needs a loss.sparsity_weight above 0: give both")


@dataclass
class VaeConfig(ReconstructionConfig):
    """The variational autoencoder's loss."""

    kl_weight: float = key(1.0, minimum=0)
    kl_warmup_epochs: float = key(0.0, minimum=0, unit="epochs")
    kl_cycle_epochs: float = key(0.0, minimum=0, unit="epochs")
    free_bits: float = key(0.0, minimum=0, unit="nats a dimension")
    kl_capacity: float | None = key(None, minimum=0, unit="nats")
    kl_capacity_epochs: float = key(0.0, minimum=0, unit="epochs")

    def check(self) -> None:
        """Refuse two keys of the KL term where one would leave the other without effect."""
        if self.kl_cycle_epochs and not 0 < self.kl_warmup_epochs <= self.kl_cycle_epochs:
            raise UserError(
                f"loss.kl_cycle_epochs={self.kl_cycle_epochs} repeats the warm-up of loss.kl_warmup_epochs="
                f"{self.kl_warmup_epochs}: give that a number of epochs above 0, and no more than a cycle has"
            )
        if self.kl_capacity_epochs and self.kl_capacity is None:
            raise UserError("loss.kl_capacity_epochs needs loss.kl_capacity, which grows over them: give both")
        if self.free_bits and self.kl_capacity is not None:
            raise UserError("loss.free_bits and loss.kl_capacity each replace the KL term: leave one of them out")

    def needs(self) -> Iterator[Need]:
        """Yield that free bits are counted by dimension, and so need the closed KL divergence of each."""
        yield from super().needs()
        if self.free_bits:
            yield Need("free_bits", "posterior", "factorised")
            yield Need("free_bits", "prior", "factorised")

    def lacks(self) -> Iterator[Lack]:
        """Yield that without a weight nothing depends on the prior."""
        if not self.kl_weight:
            yield Lack("kl_weight", LOG_PRIOR)


@dataclass
class TotalCorrelationConfig(ReconstructionConfig):
    """The β-TCVAE's loss."""

    mutual_information_weight: float = key(1.0, minimum=0)
    total_correlation_weight: float = key(6.0, minimum=0)
    dimension_kl_weight: float = key(1.0, minimum=0)
    estimator: str = key("stratified", choices=("stratified", "weighted"))

    def lacks(self) -> Iterator[Lack]:
        """Yield that without a weight nothing depends on the prior."""
        if not self.dimension_kl_weight:
            yield Lack("dimension_kl_weight", LOG_PRIOR)


@dataclass
class DisentangledPriorConfig(ReconstructionConfig):
    """The DIP-VAE's loss."""

    kl_weight: float = key(1.0, minimum=0)
    off_diagonal_weight: float = key(10.0, minimum=0)
    diagonal_weight: float = key(100.0, minimum=0)
    kind: str = key("i", choices=("i", "ii"))

    def lacks(self) -> Iterator[Lack]:
        """Yield that without a weight nothing depends on the prior."""
        if not self.kl_weight:
            yield Lack("kl_weight", LOG_PRIOR)


@dataclass
class MeanDiscrepancyConfig(ReconstructionConfig):
    """The loss of Wasserstein autoencoders and InfoVAEs."""

    kl_weight: float = key(0.0, minimum=0)
    mmd_weight: float = key(10.0, minimum=0)
    kernel: str = key("imq", choices=("imq", "rbf"))

    def needs(self) -> Iterator[Need]:
        """Yield that the KL term is of a density."""
        yield from super().needs()
        if self.kl_weight:
            yield Need("kl_weight", "posterior", "density")

    def lacks(self) -> Iterator[Lack]:
        """Yield that without a weight nothing depends on the prior."""
        if not (self.kl_weight or self.mmd_weight):
            yield Lack("mmd_weight", PRIOR)


@dataclass
class ImportanceWeightedConfig(Built):
    """The importance-weighted autoencoder's loss."""

    samples: int = key(5, minimum=1, maximum=10_000, unit="draws an image")
    groups: int = key(1, minimum=1, maximum=10_000)
    elbo_weight: float = key(0.0, minimum=0, maximum=1)
    gradient: str = key("iwae", choices=("iwae", "stl", "dreg"))
    partial: bool = False

    def check(self) -> None:
        """Refuse `partial` where both players would have the same bound, and with keys that it is not defined for."""
        if self.partial and (self.groups == 1 or self.gradient != "iwae" or self.elbo_weight):
            raise UserError(
                "loss.partial=true trains the encoder by the bounds of several groups of draws: it needs loss.groups "
                "above 1, loss.gradient=iwae and loss.elbo_weight=0"
            )

    def needs(self) -> Iterator[Need]:
        """Yield that an estimator without the score takes the posterior's density as a function of z."""
        if self.gradient != "iwae":
            yield Need("gradient", "posterior", "every z")


@dataclass
class RenyiConfig(Built):
    """The Rényi bound."""

    samples: int = key(5, minimum=1, maximum=10_000, unit="draws an image")
    alpha: float = key(0.5, minimum=-100, maximum=100)


@dataclass
class RegularizedConfig(ReconstructionConfig):
    """The regularised autoencoder's loss."""

    embedding_weight: float = key(1.0, minimum=0)
    weight_decay: float = key(0.0, minimum=0)
    gradient_penalty: float = key(0.0, minimum=0)
    spectral_norm: bool = False


@dataclass
class VectorQuantizedConfig(ReconstructionConfig):
    """The loss of autoencoders with a codebook."""

    codebook_weight: float = key(1.0, minimum=0)
    commitment_weight: float = key(0.25, minimum=0)


@dataclass
class OpposedConfig(Built):
    """The keys of a loss with a discriminator."""

    players: dict[str, Any] = field(default_factory=dict)  # the keys of an optimizer for each of its players' names
    discriminator_width: int = key(1000, minimum=1, maximum=65536)


@dataclass
class LatentDiscriminatorConfig(OpposedConfig, ReconstructionConfig):
    """The keys of a loss with a discriminator of z."""

    discriminator_depth: int = key(6, minimum=1, maximum=100, unit="hidden layers")


@dataclass
class FactorConfig(LatentDiscriminatorConfig):
    """The FactorVAE's loss."""

    total_correlation_weight: float = key(10.0, minimum=0)


@dataclass
class AdversarialConfig(LatentDiscriminatorConfig):
    """The adversarial autoencoder's loss."""

    adversarial_weight: float = key(10.0, minimum=0)
    discriminator_depth: int = key(2, minimum=1, maximum=100, unit="hidden layers")


@dataclass
class VaeGanConfig(OpposedConfig):
    """The loss of VAE/GAN."""

    kl_weight: float = key(1.0, minimum=0)
    feature_weight: float = key(0.1, minimum=0)
    discriminator_width: int = key(32, minimum=1, maximum=4096, unit="filters")

    def lacks(self) -> Iterator[Lack]:
        """Yield that without a weight nothing trains the prior: the draws of it are for the decoder."""
        if not self.kl_weight:
            yield Lack("kl_weight", LOG_PRIOR)


@dataclass
class PatchDiscriminatorConfig(OpposedConfig, ReconstructionConfig):
    """The keys of a loss with a discriminator of patches."""

    adversarial: str = key("hinge", choices=("hinge", "non_saturating"))
    adversarial_weight: float = key(0.5, minimum=0)
    adversarial_from: int = key(0, minimum=0, unit="steps")
    weight_by_gradients: bool = True
    discriminator_width: int = key(64, minimum=1, maximum=4096, unit="filters")
    discriminator_depth: int = key(3, minimum=1, maximum=16, unit="halvings")
    perceptual_model: str | None = None
    perceptual_layers: str = key("all", choices=("all", "last"))
    perceptual_weight: float = key(1.0, minimum=0)

    def needs(self) -> Iterator[Need]:
        """Yield that a classifier is trained on labels."""
        yield from super().needs()
        if self.perceptual_model == CLASSIFIER:
            yield Need("perceptual_model", "dataset", "labels")


@dataclass
class PatchGanConfig(PatchDiscriminatorConfig):
    """The loss of autoencoders for latent diffusion."""

    kl_weight: float = key(0.0, minimum=0)

    def needs(self) -> Iterator[Need]:
        """Yield that the KL term is of a density."""
        yield from super().needs()
        if self.kl_weight:
            yield Need("kl_weight", "posterior", "density")

    def lacks(self) -> Iterator[Lack]:
        """Yield that without a weight nothing depends on the prior."""
        if not self.kl_weight:
            yield Lack("kl_weight", LOG_PRIOR)


@dataclass
class VqGanConfig(PatchDiscriminatorConfig):
    """The loss of VQGAN."""

    codebook_weight: float = key(1.0, minimum=0)
    commitment_weight: float = key(0.25, minimum=0)


DENSITY = {"posterior": frozenset({"density"})}
DENSITIES = DENSITY | {"likelihood": frozenset({"density"})}
FACTORISED = {"posterior": frozenset({"factorised"})}
CODEBOOK = frozenset({"codebook"})
PRIOR = frozenset({"prior"})  # Its terms depend on the prior.
LOG_PRIOR = PRIOR | {"log prior"}  # And not by draws of it alone.

COMPONENTS = (
    Component(
        "loss", "vae", "vae_runner.losses.elbo.Elbo", VaeConfig,
        "reconstruction_weight kl_weight kl_warmup_epochs", needs=DENSITY, gives=LOG_PRIOR,
    ),
    Component(
        "loss", "ae", "vae_runner.losses.reconstruction.Reconstruction", AeConfig,
        "reconstruction_weight noise_scale contractive_weight sparsity_weight",
    ),
    Component(
        "loss", "beta_tc", "vae_runner.losses.total_correlation.TotalCorrelation", TotalCorrelationConfig,
        "total_correlation_weight", needs=FACTORISED, gives=LOG_PRIOR,
    ),
    Component(
        "loss", "dip", "vae_runner.losses.disentangled_prior.DisentangledPrior", DisentangledPriorConfig,
        "kind off_diagonal_weight diagonal_weight", needs=FACTORISED, gives=LOG_PRIOR,
    ),
    Component(
        "loss", "mmd", "vae_runner.losses.mean_discrepancy.MeanDiscrepancy", MeanDiscrepancyConfig,
        "mmd_weight kernel", gives=PRIOR,
    ),
    Component(
        "loss", "iwae", "vae_runner.losses.importance_weighted.ImportanceWeighted", ImportanceWeightedConfig,
        "samples groups gradient", needs=DENSITIES, gives=LOG_PRIOR,
    ),
    Component("loss", "renyi", "vae_runner.losses.renyi.Renyi", RenyiConfig, "alpha", needs=DENSITIES, gives=LOG_PRIOR),
    Component(
        "loss", "rae", "vae_runner.losses.regularized.Regularized", RegularizedConfig,
        "embedding_weight weight_decay gradient_penalty spectral_norm",
    ),
    Component(
        "loss", "vq", "vae_runner.losses.vector_quantized.VectorQuantized", VectorQuantizedConfig, "commitment_weight",
        needs={"posterior": CODEBOOK}, gives=LOG_PRIOR | CODEBOOK,
    ),
    Component(
        "loss", "factor", "vae_runner.losses.factor.Factor", FactorConfig, "total_correlation_weight",
        needs={"posterior": frozenset({"density", "vector"})}, gives=LOG_PRIOR,
    ),
    Component("loss", "aae", "vae_runner.losses.adversarial.Adversarial", AdversarialConfig, "adversarial_weight"),
    Component(
        "loss", "vae_gan", "vae_runner.losses.vae_gan.VaeGan", VaeGanConfig, "kl_weight feature_weight",
        needs=DENSITY | {"likelihood": frozenset({"error"})}, gives=LOG_PRIOR,
    ),
    Component(
        "loss", "patch_gan", "vae_runner.losses.patch_gan.PatchGan", PatchGanConfig,
        "kl_weight adversarial_weight adversarial_from perceptual_model", gives=LOG_PRIOR,
    ),
    Component(
        "loss", "vq_gan", "vae_runner.losses.vq_gan.VqGan", VqGanConfig,
        "commitment_weight adversarial_weight adversarial_from perceptual_model", needs={"posterior": CODEBOOK},
        gives=CODEBOOK,
    ),
)  # fmt: skip
