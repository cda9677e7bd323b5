"""The datasets that a run can choose, with their keys."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from vae_runner.config.keys import Mixed, key
from vae_runner.config.registry import Built, Component, Keys
from vae_runner.errors import UserError

BINARIZATIONS = ("none", "threshold", "dynamic", "static")


@dataclass
class AugmentConfig(Keys):
    """How training images are changed at random."""

    flip: bool = False
    shift: int = key(0, minimum=0, maximum=65536, unit="pixels")
    crop: float = key(0.0, minimum=0, below=1, unit="of height and width")
    brightness: float = key(0.0, minimum=0, maximum=1, unit="of white")


@dataclass
class DatasetConfig(Built):
    """What every dataset has."""

    limit: int | None = key(None, minimum=1, unit="images of each split")
    validation_fraction: float = key(0.0, minimum=0, below=1, unit="of the training images")
    binarize: str = key("none", choices=BINARIZATIONS)
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def check(self) -> None:
        """Refuse an augmentation that would make grey images of black and white ones."""
        check_augment(self.augment, self.binarize)


def check_augment(augment: AugmentConfig, binarize: str) -> None:
    """Refuse an augmentation that would make grey images of black and white ones."""
    if binarize in ("threshold", "static") and (augment.crop or augment.brightness):
        name = "crop" if augment.crop else "brightness"
        raise UserError(
            f"dataset.augment.{name} makes grey pixels, and dataset.binarize={binarize} has none: choose "
            f"dataset.binarize=dynamic, which draws from what is augmented, or leave dataset.augment.{name} out"
        )


@dataclass
class DigitsConfig(DatasetConfig):
    """scikit-learn's bundled digits."""

    test_fraction: float = key(0.2, above=0, below=1, unit="of all images")
    image_size: int | None = key(None, minimum=8, maximum=1024, unit="pixels")


@dataclass
class IdxConfig(DatasetConfig):
    """A dataset of four IDX files: MNIST, Fashion-MNIST."""

    root: str | None = None
    data_dir: str = "${data_dir}"
    url: str = MISSING
    image_size: int | None = key(None, minimum=8, maximum=1024, unit="pixels")


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


SHOWN = "root image_size limit validation_fraction binarize augment"
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
        f"{SHOWN} channels labels background",
        gives=LABELS,  # with labels=folders: see `Config.check`
    ),
)
