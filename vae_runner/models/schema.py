"""The networks that a run can choose, with their keys."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from vae_runner.config.keys import Mixed, key
from vae_runner.config.registry import Built, Component, Need
from vae_runner.errors import UserError

MAX_WIDTH = 65536
ACTIVATIONS = ("leaky_relu", "relu", "elu", "selu", "gelu", "silu", "softplus", "tanh")  # Keras's names
LATENTS = ("vector", "spatial")  # with the second `build` is called with `spatial`


@dataclass
class NetworkConfig(Built):
    """What every network has."""

    output_bias: str = key("zero", choices=("zero", "mean"))
    conditional: bool = False  # `build` is called with `classes` where this is true

    def needs(self) -> Iterator[Need]:
        """Yield the labels of a conditional network, and a mean for its decoder to begin at."""
        if self.conditional:
            yield Need("conditional", "dataset", "labels")
        if self.output_bias == "mean":
            yield Need("output_bias", "likelihood", "mean")


@dataclass
class MapsConfig(NetworkConfig):
    """What a network has whose latent may be a map."""

    latent: str = key("vector", choices=LATENTS)

    def needs(self) -> Iterator[Need]:
        """Yield that a map of latents is of a posterior that makes one."""
        yield from super().needs()
        if self.latent == "spatial":
            yield Need("latent", "posterior", "map")


@dataclass
class ConvConfig(MapsConfig):
    """The tutorial's family of convolutional networks."""

    depth: int | None = key(None, minimum=1, maximum=32, unit="blocks")
    downsamplings: int | None = key(None, minimum=0, maximum=32, unit="blocks of stride 2")
    filters: Mixed[int | list[int] | None] = None  # of every block, or of each
    kernel_size: int = key(3, minimum=1, maximum=15, unit="pixels")
    normalization: str = key("batch", choices=("batch", "layer", "none"))
    batch_norm_momentum: float = key(0.9, minimum=0, below=1)
    activation: str = key("leaky_relu", choices=ACTIVATIONS)
    leaky_relu_slope: float = key(0.2, minimum=0, maximum=1)

    def check(self) -> None:
        """Refuse filters that are no numbers of channels."""
        _check_channels("filters", self.filters, "block")


@dataclass
class ResnetConfig(MapsConfig):
    """Residual networks."""

    latent: str = key("spatial", choices=LATENTS)
    downsamplings: int | None = key(None, minimum=0, maximum=32, unit="halvings of the image")
    widths: Mixed[int | list[int] | None] = None  # of every resolution, or of each
    blocks: int = key(1, minimum=1, maximum=32, unit="residual blocks a resolution")
    attention: bool = False

    def check(self) -> None:
        """Refuse widths that are no numbers of channels."""
        _check_channels("widths", self.widths, "resolution")


@dataclass
class DenseConfig(NetworkConfig):
    """The hidden layers of a network that has dense ones only."""

    depth: int = key(2, minimum=1, maximum=32, unit="hidden layers")
    width: int = key(512, minimum=1, maximum=MAX_WIDTH, unit="units a hidden layer")
    widths: Mixed[list[int] | None] = None  # of each hidden layer

    def check(self) -> None:
        """Refuse widths that are no list of numbers of units."""
        if self.widths is not None:
            _check_widths(self.widths)


@dataclass
class MlpConfig(DenseConfig):
    """Dense layers only."""

    normalization: str = key("none", choices=("batch", "layer", "none"))
    batch_norm_momentum: float = key(0.9, minimum=0, below=1)
    activation: str = key("leaky_relu", choices=ACTIVATIONS)
    leaky_relu_slope: float = key(0.2, minimum=0, maximum=1)


@dataclass
class GatedMlpConfig(DenseConfig):
    """Dense layers with gates."""

    width: int = key(300, minimum=1, maximum=MAX_WIDTH, unit="units a hidden layer")


@dataclass
class BurgessConfig(NetworkConfig):
    """The network of the papers on disentangled representations."""

    filters: Mixed[int | list[int] | None] = None  # of every convolution, or of each
    widths: list[int] = field(default_factory=lambda: [256])  # of the dense layers
    activation: str = key("relu", choices=ACTIVATIONS)
    leaky_relu_slope: float = key(0.2, minimum=0, maximum=1)

    def check(self) -> None:
        """Refuse filters and widths that are no numbers of channels and units."""
        _check_channels("filters", self.filters, "convolution")
        _check_widths(self.widths)


def _check_channels(name: str, channels: object, layer: str) -> None:
    if channels is not None and not _are_widths(channels if isinstance(channels, list) else [channels]):
        raise UserError(
            f"model.{name}={channels}: must be an integer from 1 to {MAX_WIDTH}, or a list with one such integer a "
            f"{layer}"
        )


def _check_widths(widths: object) -> None:
    if not _are_widths(widths):
        raise UserError(
            f"model.widths={widths}: must be a list with an integer from 1 to {MAX_WIDTH} for each dense layer"
        )


def _are_widths(values: object) -> bool:
    return isinstance(values, list) and bool(values) and all(type(v) is int and 1 <= v <= MAX_WIDTH for v in values)


SHOWN = "normalization activation output_bias conditional"
CONV_SHOWN = f"latent depth filters downsamplings kernel_size {SHOWN}"
RESNET_SHOWN = "latent downsamplings widths blocks attention output_bias conditional"
# Of an autoencoder, what may have weights: the two networks, and the families around them.
PARTS = ("encoder", "decoder", "posterior", "prior", "likelihood")

COMPONENTS = (
    Component("model", "conv", "vae_runner.models.conv.build", ConvConfig, CONV_SHOWN),
    Component("model", "resnet", "vae_runner.models.resnet.build", ResnetConfig, RESNET_SHOWN),
    Component("model", "mlp", "vae_runner.models.mlp.build", MlpConfig, f"depth width widths {SHOWN}"),
    Component("model", "gated_mlp", "vae_runner.models.gated_mlp.build", GatedMlpConfig, "depth width widths"),
    Component("model", "burgess", "vae_runner.models.burgess.build", BurgessConfig, "filters widths activation"),
    Component("model", "linear", "vae_runner.models.linear.build", NetworkConfig),
)
