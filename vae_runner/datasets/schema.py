"""The datasets that a run can choose, with their keys."""

from dataclasses import dataclass

from omegaconf import MISSING

from vae_runner.config.keys import Mixed, key
from vae_runner.config.registry import Built, Component

BINARIZATIONS = ("none", "threshold", "dynamic", "static")


@dataclass
class DatasetConfig(Built):
    """What every dataset has."""

    limit: int | None = key(None, minimum=1, unit="images of each split")
    validation_fraction: float = key(0.0, minimum=0, below=1, unit="of the training images")
    binarize: str = key("none", choices=BINARIZATIONS)


@dataclass
class DigitsConfig(DatasetConfig):
    """scikit-learn's bundled digits."""

    test_fraction: float = key(0.2, above=0, below=1, unit="of all images")


@dataclass
class IdxConfig(DatasetConfig):
    """A dataset of four IDX files: MNIST, Fashion-MNIST."""

    root: str | None = None
    data_dir: str = "${data_dir}"
    url: str = MISSING


@dataclass
class FolderConfig(DatasetConfig):
    """A folder of image files."""

    root: str | None = None
    data_dir: str = "${data_dir}"
    image_size: Mixed[int | list[int]] = MISSING  # [height, width]
    channels: int = key(3, choices=(1, 3))
    background: Mixed[str | list[int]] = "white"  # a colour name, "#rrggbb", or [r, g, b]
    crop: bool = False
    labels: str | None = key(None, choices=("folders",))
    test_fraction: float = key(0.1, above=0, below=1, unit="of all images")
    on_error: str = key("stop", choices=("stop", "skip"))


@dataclass
class CartoonConfig(FolderConfig):
    """Google's Cartoon Set."""

    variant: str = key("10k", choices=("10k", "100k"))
    url: str = MISSING


SHOWN = "root limit validation_fraction binarize"
LABELS = frozenset({"labels"})
COMPONENTS = (
    Component("dataset", "digits", "vae_runner.datasets.digits.load", DigitsConfig, gives=LABELS),
    Component("dataset", "fashion", "vae_runner.datasets.fashion.load", IdxConfig, SHOWN, gives=LABELS),
    Component("dataset", "mnist", "vae_runner.datasets.mnist.load", IdxConfig, SHOWN, gives=LABELS),
    Component("dataset", "cartoon", "vae_runner.datasets.cartoon.load", CartoonConfig, SHOWN),
    Component(
        "dataset",
        "folder",
        "vae_runner.datasets.folder.load",
        FolderConfig,
        f"{SHOWN} image_size channels labels background",
        gives=LABELS,  # with labels=folders: see `Config.check`
    ),
)
