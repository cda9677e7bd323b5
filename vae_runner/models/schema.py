"""The networks that a run can choose, with their keys."""

from dataclasses import dataclass

from vae_runner.config.keys import Mixed, key
from vae_runner.config.registry import Built, Component
from vae_runner.errors import UserError


@dataclass
class NetworkConfig(Built):
    """What every network has."""

    conditional: bool = False  # `build` is called with `classes` where this is true


@dataclass
class ConvConfig(NetworkConfig):
    """The tutorial's family of convolutional networks."""

    depth: int | None = key(None, minimum=1, maximum=32, unit="blocks")
    downsamplings: int | None = key(None, minimum=0, maximum=32, unit="blocks of stride 2")
    filters: Mixed[int | list[int] | None] = None  # of every block, or of each
    kernel_size: int = key(3, minimum=1, maximum=15, unit="pixels")
    normalization: str = key("batch", choices=("batch", "layer", "none"))
    batch_norm_momentum: float = key(0.9, minimum=0, below=1)
    leaky_relu_slope: float = key(0.2, minimum=0, maximum=1)

    def check(self) -> None:
        """Refuse filters that are no widths of blocks."""
        if self.filters is None:
            return
        values = self.filters if isinstance(self.filters, list) else [self.filters]
        if not values or not all(type(v) is int and 1 <= v <= 65536 for v in values):
            raise UserError(
                f"model.filters={self.filters}: must be an integer from 1 to 65536, or a list with one such integer a "
                "block"
            )


@dataclass
class MlpConfig(NetworkConfig):
    """Dense layers only."""

    depth: int = key(2, minimum=1, maximum=32, unit="hidden layers")
    width: int = key(512, minimum=1, maximum=65536, unit="units a hidden layer")
    normalization: str = key("none", choices=("batch", "layer", "none"))
    batch_norm_momentum: float = key(0.9, minimum=0, below=1)
    leaky_relu_slope: float = key(0.2, minimum=0, maximum=1)


CONV_SHOWN = "depth filters downsamplings kernel_size normalization conditional"
COMPONENTS = (
    Component("model", "conv", "vae_runner.models.conv.build", ConvConfig, CONV_SHOWN),
    Component("model", "mlp", "vae_runner.models.mlp.build", MlpConfig, "depth width normalization conditional"),
)
