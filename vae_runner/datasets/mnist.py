"""MNIST: 70,000 handwritten digits, 28×28 grey, 10 classes (LeCun, Cortes and Burges, 1998).

Its fixed binarisation, which papers report likelihoods of, was published as three files (Larochelle and Murray, 2011:
The neural autoregressive distribution estimator). Where they lie beside the grey images, `binarize: static` has theirs.
"""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vae_runner.datasets.dataset import Dataset, Split, make_dataset
from vae_runner.datasets.io.idx import IdxDataset, IdxFile
from vae_runner.errors import UserError
from vae_runner.files.untrusted import DamagedError, is_file, read

log = logging.getLogger(__name__)

LABEL_NAMES = [str(digit) for digit in range(10)]
FILES = {
    "train_images": IdxFile("train-images-idx3-ubyte", "6bbc9ace898e44ae57da46a324031adb"),
    "train_labels": IdxFile("train-labels-idx1-ubyte", "a25bea736e30d166cdddb491f175f624"),
    "test_images": IdxFile("t10k-images-idx3-ubyte", "2646ac647ad5339dbf082846283269ea"),
    "test_labels": IdxFile("t10k-labels-idx1-ubyte", "27ae3e4e09519cfbb04c329615203637"),
}
GREY = IdxDataset("mnist", FILES, LABEL_NAMES)
BINARY = {part: f"binarized_mnist_{part}.amat" for part in ("train", "valid", "test")}
SIDE = 28
PADDED = 32  # the only other size to which images stay black and white
MAX_BYTES = 1 << 28  # three times the largest of the files


def load(
    *,
    root: str | None,
    data_dir: str,
    url: str,
    limit: int | None = None,
    validation_fraction: float = 0.0,
    image_size: int | None = None,
) -> Dataset:
    """Return MNIST as `IdxDataset.load` finds it; its `static` reads the published binarisation, if that is there.

    Raises:
        UserError: as `IdxDataset.load` says.
    """
    keys = {"limit": limit, "validation_fraction": validation_fraction, "image_size": image_size}
    grey = GREY.load(root=root, data_dir=data_dir, url=url, **keys)  # type: ignore[arg-type]
    folder = Path(data_dir, "mnist").expanduser() if root is None else Path(root).expanduser()
    if not any(is_file(folder / name) for name in BINARY.values()):
        return grey
    return replace(grey, static=partial(load_binary, folder, limit, validation_fraction, image_size))


def load_binary(folder: Path, limit: int | None, validation_fraction: float, image_size: int | None) -> Dataset:
    """Return the published binarisation: 50,000 training, 10,000 validation and 10,000 test images, without classes.

    The validation images are trained on, too, where `validation_fraction` is 0.

    Raises:
        UserError: one of the files is missing or damaged, or `image_size` is another than 28 or 32.
    """
    if image_size not in (None, SIDE, PADDED):
        raise UserError(
            f"dataset.image_size={image_size}: the binary images of {folder} have {SIDE} pixels a side and stay black "
            f"and white at {PADDED} alone: choose that, leave it out, or move {BINARY['train']} away"
        )
    parts = {part: read_amat(folder / name) for part, name in BINARY.items()}
    log.info("Static binarisation: that of %s", folder / "binarized_mnist_*.amat")
    sized = partial(make_dataset, label_names=(), limit=limit, validation_fraction=0.0, image_size=image_size)
    test = Split(parts["test"])
    if not validation_fraction:
        return sized(Split(np.concatenate([parts["train"], parts["valid"]])), test)
    return replace(sized(Split(parts["train"]), test), validation=sized(Split(parts["valid"]), test).train)


def read_amat(path: Path) -> NDArray[np.uint8]:
    """Return the images of a file, 0 or 255, `[n, 28, 28, 1]`: a line of 784 zeros and ones with spaces is an image.

    Raises:
        UserError: there is no such file, or it holds something else.
    """
    try:
        content = np.frombuffer(read(path, MAX_BYTES), np.uint8)
    except (DamagedError, OSError) as error:
        raise UserError(
            f"{path} cannot be read ({error}): dataset.binarize=static takes it with the other two"
        ) from error
    digits = content[(content == ord("0")) | (content == ord("1"))] - np.uint8(ord("0"))
    spaces = np.isin(content, np.frombuffer(b" \t\r\n", np.uint8)).sum()
    if len(digits) + spaces != len(content) or len(digits) % SIDE**2 or not len(digits):
        raise UserError(f"{path} is not of lines of {SIDE**2} zeros and ones: it is damaged; get it again")
    return 255 * digits.reshape(-1, SIDE, SIDE, 1)
