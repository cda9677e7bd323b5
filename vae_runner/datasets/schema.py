"""The datasets that a run can choose, with their keys."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from omegaconf import MISSING

from vae_runner.config.keys import Mixed, key
from vae_runner.config.registry import Built, Component, Keys
from vae_runner.errors import UserError, did_you_mean

BINARIZATIONS = ("none", "threshold", "dynamic", "static")
SPRITES = ("heart", "arrow", "drop", "square", "ellipse")
MAX_SPRITES = 10_000_000  # images, whose numbers and factors are kept in memory
MAX_GLYPH_BYTES = 1 << 28


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
    factors: str | None = None
    test_fraction: float = key(0.1, above=0, below=1, unit="of all images")
    on_error: str = key("stop", choices=("stop", "skip"))


@dataclass
class CartoonConfig(FolderConfig):
    """Google's Cartoon Set."""

    variant: str = key("10k", choices=("10k", "100k"))
    url: str = MISSING


@dataclass
class SpritesConfig(DatasetConfig):
    """Sprites that we draw."""

    image_size: int = key(32, minimum=8, maximum=256, unit="pixels")
    shapes: list[str] = field(default_factory=lambda: list(SPRITES[:3]))
    scales: int = key(4, minimum=1, maximum=32)
    orientations: int = key(16, minimum=1, maximum=360)
    orientation_range: float = key(360.0, above=0, maximum=360, unit="degrees")
    positions_x: int = key(16, minimum=1, maximum=128)
    positions_y: int = key(16, minimum=1, maximum=128)
    test_fraction: float = key(0.1, above=0, below=1, unit="of all images")

    def check(self) -> None:
        """Refuse shapes that there are not, positions that do not fit, and more than memory holds."""
        super().check()
        check_sprites(self.image_size, self.shapes, self.scales, self.orientations, self.positions_x, self.positions_y)


def check_sprites(
    image_size: int, shapes: Sequence[str], scales: int, orientations: int, positions_x: int, positions_y: int
) -> None:
    """Refuse shapes that there are not, positions that do not fit, and more than memory holds."""
    for shape in shapes:
        if shape not in SPRITES:
            raise UserError(
                f"dataset.shapes: there is no shape '{shape}'.{did_you_mean(shape, SPRITES)} "
                f"Choose from {', '.join(SPRITES)}"
            )
    if not shapes or len(set(shapes)) < len(shapes):
        raise UserError(f"dataset.shapes={list(shapes)}: give at least one of {', '.join(SPRITES)}, and each once")
    if image_size % 4:
        raise UserError(f"dataset.image_size={image_size}: sprites need a multiple of 4 (pixels)")
    for name, positions in (("x", positions_x), ("y", positions_y)):
        if positions > image_size // 2:
            raise UserError(
                f"dataset.positions_{name}={positions}: images of {image_size} pixels have room for {image_size // 2} "
                "positions, a pixel apart: give at most so many, or a larger dataset.image_size"
            )
    glyphs = len(shapes) * scales * orientations
    images = glyphs * positions_x * positions_y
    if images > MAX_SPRITES or glyphs * (image_size // 2 + 1) ** 2 > MAX_GLYPH_BYTES:
        factors = f"{len(shapes)} shapes × {scales} scales × {orientations} orientations"
        raise UserError(
            f"dataset=sprites with {factors} × {positions_x} × {positions_y} positions is {images:,} images of "
            f"{image_size} pixels: take fewer values of some, so that there are at most {MAX_SPRITES:,} images, "
            f"and {MAX_GLYPH_BYTES >> 20} MB of glyphs"
        )
    if images == 1:
        raise UserError("dataset=sprites with one value of every factor is one image: give more values of some")


@dataclass
class PublishedConfig(DatasetConfig):
    """A published dataset with an image for each combination of factors."""

    root: str | None = None
    data_dir: str = "${data_dir}"
    url: str = MISSING
    test_fraction: float = key(0.1, above=0, below=1, unit="of all images")


@dataclass
class Mpi3dConfig(PublishedConfig):
    """MPI3D."""

    variant: str = key("toy", choices=("toy", "realistic", "real"))


SHOWN = "root image_size limit validation_fraction binarize augment"
OF_FACTORS = "root limit test_fraction validation_fraction binarize augment"
LABELS = frozenset({"labels"})
COMPONENTS = (
    Component("dataset", "digits", "vae_runner.datasets.digits.load", DigitsConfig, gives=LABELS),
    Component("dataset", "fashion", "vae_runner.datasets.fashion.load", IdxConfig, SHOWN, gives=LABELS),
    Component("dataset", "mnist", "vae_runner.datasets.mnist.load", IdxConfig, SHOWN, gives=LABELS),
    Component(
        "dataset",
        "sprites",
        "vae_runner.datasets.sprites.load",
        SpritesConfig,
        "shapes image_size scales orientations orientation_range positions_x positions_y limit validation_fraction "
        "binarize augment",
        gives=LABELS,
    ),
    Component("dataset", "dsprites", "vae_runner.datasets.dsprites.load", PublishedConfig, OF_FACTORS, gives=LABELS),
    Component("dataset", "shapes3d", "vae_runner.datasets.shapes3d.load", PublishedConfig, OF_FACTORS, gives=LABELS),
    Component("dataset", "mpi3d", "vae_runner.datasets.mpi3d.load", Mpi3dConfig, OF_FACTORS, gives=LABELS),
    Component("dataset", "cars3d", "vae_runner.datasets.cars3d.load", PublishedConfig, OF_FACTORS, gives=LABELS),
    Component("dataset", "smallnorb", "vae_runner.datasets.smallnorb.load", PublishedConfig, OF_FACTORS, gives=LABELS),
    Component("dataset", "cartoon", "vae_runner.datasets.cartoon.load", CartoonConfig, SHOWN),
    Component(
        "dataset",
        "folder",
        "vae_runner.datasets.folder.load",
        FolderConfig,
        f"{SHOWN} channels labels factors background",
        gives=LABELS,  # with labels=folders: see `Config.check`
    ),
)
