"""What is measured of a trained model, and on how many images; imports no TensorFlow."""

from dataclasses import dataclass, field

from vae_runner.config.keys import key
from vae_runner.config.registry import Component, Keys
from vae_runner.errors import UserError, did_you_mean

GROUPS = ("likelihood", "structure", "reconstruction", "disentanglement", "probes", "samples")
MAX_SEED = 2**32 - 1


@dataclass
class LikelihoodConfig(Keys):
    """How the likelihood of test images is estimated."""

    images: int = key(1000, minimum=2, unit="images")
    samples: int = key(100, minimum=1, unit="importance samples of an image")
    ais_images: int = key(0, minimum=0, unit="images")
    ais_steps: int = key(1000, minimum=2, unit="steps")


@dataclass
class StructureConfig(Keys):
    """From how much the latent space's structure is computed."""

    images: int = key(10_000, minimum=10, unit="images")
    samples: int = key(2000, minimum=10, unit="draws of the aggregate posterior")


@dataclass
class ReconstructionConfig(Keys):
    """On how many images reconstructions are compared."""

    images: int = key(10_000, minimum=1, unit="images")


@dataclass
class DisentanglementConfig(Keys):
    """From how many images the scores are computed that need no predictor of their own."""

    images: int = key(10_000, minimum=1000, unit="images")


@dataclass
class DciConfig(Keys):
    """From how many images DCI's trees learn, and how many test them."""

    samples: int = key(2000, minimum=1000, unit="images")
    test_samples: int = key(1000, minimum=500, unit="images")


@dataclass
class ProbesConfig(Keys):
    """From how many images probes learn, on how many they are tested, and whether a small network is one of them."""

    train_images: int = key(10_000, minimum=10, unit="images")
    images: int = key(10_000, minimum=10, unit="images")
    mlp: bool = False


@dataclass
class SamplesConfig(Keys):
    """How many samples are compared with how many test images, and in which features."""

    number: int = key(5000, minimum=100, unit="samples")
    features: str = "classifier"


@dataclass
class EvaluationConfig(Keys):
    """What is measured of the trained model, and when."""

    metrics: list[str] = field(default_factory=list)
    every: int = key(0, minimum=0, unit="epochs")
    seed: int = key(0, minimum=0, maximum=MAX_SEED)
    likelihood: LikelihoodConfig = field(default_factory=LikelihoodConfig)
    structure: StructureConfig = field(default_factory=StructureConfig)
    reconstruction: ReconstructionConfig = field(default_factory=ReconstructionConfig)
    disentanglement: DisentanglementConfig = field(default_factory=DisentanglementConfig)
    dci: DciConfig = field(default_factory=DciConfig)
    probes: ProbesConfig = field(default_factory=ProbesConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)

    def is_due(self, epoch: int) -> bool:
        """Return whether the model is measured after this epoch of its training, too."""
        return bool(self.metrics and self.every) and epoch % self.every == 0

    def check(self) -> None:
        """Refuse metrics that there are not, and a time for none."""
        if self.every and not self.metrics:
            raise UserError(
                f"evaluation.every={self.every}: nothing is measured, then or at the end: choose evaluation=default, "
                "or evaluation.metrics=[likelihood,structure]"
            )
        for name in self.metrics:
            if name not in GROUPS:
                raise UserError(
                    f"evaluation.metrics: there is no {name}.{did_you_mean(name, GROUPS)} Choose from "
                    f"{', '.join(GROUPS)}"
                )


SHOWN = "every metrics likelihood.samples probes.mlp samples.features"
COMPONENTS = (Component("evaluation", "default", None, EvaluationConfig, SHOWN),)
