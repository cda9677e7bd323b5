"""dSprites, 3D Shapes, MPI3D, Cars3D and SmallNORB: small files of the layout of the real ones."""

import gzip
import hashlib
import io
import logging
import struct
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from scipy.io import savemat

from tests.datasets.conftest import FileServer, full_disk, measured, refused, tree
from vae_runner.datasets import cars3d, dsprites, mpi3d, shapes3d, smallnorb
from vae_runner.datasets.dataset import Dataset, Split, check_dataset
from vae_runner.datasets.io.published import PublishedFile

NOWHERE = "https://nowhere.invalid"
Array = np.ndarray[Any, Any]
SIDE = 16


class Trap:
    """A pickle that writes a file when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (Path(self.path),)


def grid_values(sizes: tuple[int, ...]) -> Array:
    return np.stack(np.unravel_index(np.arange(np.prod(sizes)), sizes), axis=1)


# --- the files ----------------------------------------------------------------------------------------------------

DSPRITES = (1, 3, 2, 4, 3, 5)
SHAPES3D = (2, 3, 2, 3, 4, 5)
MPI3D = (2, 3, 2, 1, 3, 4, 2)
CARS = 3
SMALLNORB = (5, 2, 3, 4, 2)


def write_dsprites(folder: Path, **changed: Any) -> Array:
    classes = grid_values(DSPRITES)
    images = np.random.default_rng(0).integers(0, 2, (len(classes), SIDE, SIDE), np.uint8)
    metadata = np.array({"trap": Trap(str(folder / "pickle was read"))}, object)
    arrays = {"imgs": images, "latents_classes": classes, "latents_values": classes * 0.5} | changed
    np.savez_compressed(folder / dsprites.FILE.name, **arrays, metadata=metadata)
    return images[..., np.newaxis] * np.uint8(255)


def write_shapes3d(folder: Path, **changed: Any) -> Array:
    labels = grid_values(SHAPES3D) * np.array([0.1, 0.1, 0.1, 0.07, 1, 7.5]) - np.array([0, 0, 0, 0, 0, 15.0])
    images = np.random.default_rng(1).integers(0, 256, (len(labels), SIDE, SIDE, 3), np.uint8)
    with h5py.File(folder / shapes3d.FILE.name, "w") as file:
        for name, array in ({"images": images, "labels": labels} | changed).items():
            if isinstance(array, h5py.ExternalLink):
                file[name] = array
            else:
                file.create_dataset(name, data=array, compression="gzip", chunks=(7, *array.shape[1:]))
    return images


def write_mpi3d(folder: Path, **changed: Any) -> Array:
    images = np.random.default_rng(2).integers(0, 256, (np.prod(MPI3D), SIDE, SIDE, 3), np.uint8)
    np.savez(folder / "mpi3d_toy.npz", **({"images": images} | changed))
    return images


def write_cars3d(folder: Path, **changed: Any) -> Array:
    """Pictures of one grey each, in another order than the grid's, with other files between them."""
    greys = np.random.default_rng(3).integers(0, 256, (CARS, 24, 4), np.uint8)
    with tarfile.open(folder / cars3d.FILE.name, "w:gz") as tar:
        for car in range(CARS):
            stream = io.BytesIO()
            pictures = np.broadcast_to(greys[car], (128, 128, 3, 24, 4))
            savemat(stream, {"im": pictures, "more": np.array([{"a": 1}], object)} | changed, do_compression=True)
            members = {
                f"data/cars/car_{car:03}_mesh.mat": stream.getvalue(),
                f"data/sprites/{car}.mat": bytes(100_000),
                f"data/cars/._car_{car:03}_mesh.mat": b"of a Mac",
            }
            for name, content in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    in_grid = greys.transpose(2, 1, 0).reshape(-1)
    return np.broadcast_to(in_grid[:, None, None, None], (len(in_grid), 64, 64, 3))


def norb_bytes(array: Array) -> bytes:
    """An array in the format of SmallNORB's own page: at least three sizes are written."""
    magic = {"uint8": 0x1E3D4C55, "int32": 0x1E3D4C54, "float32": 0x1E3D4C51}[array.dtype.name]
    sizes = [*array.shape, *[1] * (3 - array.ndim)]
    return struct.pack(f"<Ii{len(sizes)}i", magic, array.ndim, *sizes) + array.tobytes()


def write_smallnorb(folder: Path, **changed: Any) -> Array:
    """Pairs of images of one grey each, and another on the right, in a random order."""
    count = int(np.prod(SMALLNORB))
    greys = np.random.default_rng(4).integers(0, 256, count, np.uint8)
    order = np.random.default_rng(5).permutation(count)
    values = grid_values(SMALLNORB)[order].astype(np.int32) * np.array([1, 1, 1, 2, 1], np.int32)
    pairs = np.empty((count, 2, 96, 96), np.uint8)
    pairs[:, 0], pairs[:, 1] = greys[order, None, None], 255 - greys[order, None, None]
    half = count // 2 + 3
    for part, chosen in zip(smallnorb.PARTS, (slice(half), slice(half, None)), strict=True):
        arrays = {"dat": pairs[chosen], "cat": values[chosen, 0], "info": values[chosen, 1:]}
        for kind, array in (arrays | changed).items():
            content = gzip.compress(norb_bytes(np.ascontiguousarray(array)), 1)
            (folder / f"smallnorb-{part}-{kind}.mat.gz").write_bytes(content)
    return np.broadcast_to(greys[:, None, None, None], (count, 64, 64, 1))


@dataclass(frozen=True)
class Kind:
    """A dataset: how to write and load it, and what there is to be found."""

    name: str
    load: Callable[..., Dataset]
    write: Callable[..., Array]  # returns the images in the order of the grid
    sizes: dict[str, int]
    file: str
    classes: int


def sizes_of(names: tuple[str, ...], sizes: tuple[int, ...]) -> dict[str, int]:
    return {name: size for name, size in zip(names, sizes, strict=True) if size > 1}


KINDS = [
    Kind("dsprites", dsprites.load, write_dsprites, sizes_of(dsprites.FACTORS, DSPRITES), dsprites.FILE.name, 3),
    Kind("shapes3d", shapes3d.load, write_shapes3d, sizes_of(shapes3d.FACTORS, SHAPES3D), shapes3d.FILE.name, 4),
    Kind("mpi3d", mpi3d.load, write_mpi3d, sizes_of(mpi3d.FACTORS, MPI3D), "mpi3d_toy.npz", 3),
    Kind("cars3d", cars3d.load, write_cars3d, {"elevation": 4, "azimuth": 24, "object": CARS}, cars3d.FILE.name, CARS),
    Kind(
        "smallnorb", smallnorb.load, write_smallnorb, sizes_of(smallnorb.FACTORS, SMALLNORB),
        smallnorb.FILES[0].name, 5,
    ),
]  # fmt: skip
each = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """MPI3D's file does not say its sizes."""
    monkeypatch.setattr(mpi3d, "SIZES", (MPI3D,))


def load(kind: Kind, data_dir: Path, root: Path | None = None, url: str = NOWHERE, **keys: Any) -> Dataset:
    variant = {"variant": "toy"} if kind.name == "mpi3d" else {}
    given = {"root": None if root is None else str(root), "data_dir": str(data_dir), "url": url}
    return kind.load(**given, **variant, **{"test_fraction": 0.2, **keys})


@contextmanager
def warned(caplog: pytest.LogCaptureFixture, *mentions: object) -> Iterator[None]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        yield
    for mention in mentions:
        assert str(mention) in caplog.text


# --- what is read -------------------------------------------------------------------------------------------------


@each
def test_the_images_and_factors_are_those_of_the_files(kind: Kind, tmp_path: Path) -> None:
    images = kind.write(tmp_path)
    dataset = load(kind, tmp_path / "data", tmp_path, validation_fraction=0.1)
    check_dataset(dataset)
    assert dict(zip(dataset.factor_names, dataset.factor_sizes, strict=True)) == kind.sizes
    assert len(dataset.label_names) == dataset.classes == kind.classes
    assert dataset.grid is not None
    np.testing.assert_array_equal(np.asarray(dataset.grid.images), images)

    def check(split: Split) -> None:
        assert split.factors is not None
        places = np.ravel_multi_index(tuple(split.factors.T), dataset.factor_sizes)
        np.testing.assert_array_equal(np.asarray(split.images), images[places])

    for split in (dataset.grid, *dataset.splits.values()):
        check(split)
    assert sum(len(split) for split in dataset.splits.values()) == len(images)
    assert not (tmp_path / "pickle was read").exists()


@each
def test_the_second_run_reads_what_the_first_prepared(
    kind: Kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kind.write(tmp_path)
    with warned(caplog, *(() if kind.name == "smallnorb" else ("Not the published", kind.file))):
        first = load(kind, tmp_path / "data", tmp_path)
    monkeypatch.setattr("vae_runner.datasets.io.prepared_array._make", None)
    with warned(caplog):
        again = load(kind, tmp_path / "data", tmp_path)
    assert caplog.text == ""
    assert again.fingerprint == first.fingerprint
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"prepared"}


@each
def test_what_was_prepared_and_cut_short_is_prepared_again(
    kind: Kind, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kind.write(tmp_path)
    first = load(kind, tmp_path / "data", tmp_path).fingerprint
    for name, content in (("images.u8", b"short"), ("manifest.json", b"{}")):
        (prepared,) = (tmp_path / "data" / "prepared").iterdir()
        (prepared / name).write_bytes(content)
        with warned(caplog, "is damaged: preparing it again"):
            assert load(kind, tmp_path / "data", tmp_path).fingerprint == first


def test_pictures_are_made_smaller_and_stay_upright_and_in_colour(tmp_path: Path) -> None:
    pictures = np.zeros((128, 128, 3, 24, 4), np.uint8)
    pictures[:64, :, 0] = 200
    write_cars3d(tmp_path, im=pictures)
    pairs = np.zeros((123, 2, 96, 96), np.uint8)
    pairs[:, 0, :48] = 200
    pairs[:, 1] = 100
    for kind, channels in ((KINDS[3], 3), (KINDS[4], 1)):
        if kind.name == "smallnorb":
            write_smallnorb(tmp_path)
            for part, count in zip(smallnorb.PARTS, (123, 117), strict=True):
                content = gzip.compress(norb_bytes(pairs[:count]))
                (tmp_path / f"smallnorb-{part}-dat.mat.gz").write_bytes(content)
        images = np.asarray(load(kind, tmp_path / "data", tmp_path).train.images)
        assert images.shape[1:] == (64, 64, channels)
        assert (images[:, :28, :, 0] == 200).all()
        assert (images[:, 36:] == 0).all()
        assert (images[..., 1:] == 0).all()


def test_smallnorbs_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_smallnorb(tmp_path)
    name = "smallnorb-{}-{}.mat.gz"
    testing, training = (tmp_path / name.format(part, "info") for part in smallnorb.PARTS[::-1])
    whole = testing.read_bytes()
    testing.write_bytes(training.read_bytes())
    with refused("is of 117 images", "123", "do not belong together"):
        load(KINDS[4], tmp_path / "data", tmp_path)
    testing.write_bytes(whole[:40])
    with refused(testing, "get it again"):
        load(KINDS[4], tmp_path / "data", tmp_path)


# --- where it is found --------------------------------------------------------------------------------------------


@each
def test_a_root_without_the_file_is_refused(kind: Kind, tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "nowhere"):
        with refused(f"dataset.root={root}", kind.file):
            load(kind, tmp_path / "data", root)
    assert tree(tmp_path) == set()


def expect_content(monkeypatch: pytest.MonkeyPatch, kind: Kind, path: Path) -> None:
    """Let the published file be this one."""
    file = PublishedFile(kind.file, hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest(), 1 << 28)
    if kind.name == "mpi3d":
        monkeypatch.setitem(mpi3d.FILES, "toy", file)
    else:
        monkeypatch.setattr(f"vae_runner.datasets.{kind.name}.FILE", file)


@pytest.mark.parametrize("kind", KINDS[:4], ids=lambda kind: kind.name)
def test_a_download_is_taken_if_it_is_the_published_file(
    kind: Kind, tmp_path: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    images = kind.write(tmp_path)
    server.files[f"/x/{kind.file}"] = (tmp_path / kind.file).read_bytes()
    data = tmp_path / "data"
    with refused("has content of", f"{server.url}/x/{kind.file}", data / kind.name / kind.file, "dataset=sprites"):
        load(kind, data, url=f"{server.url}/x/")
    assert tree(data) == {kind.name}
    expect_content(monkeypatch, kind, tmp_path / kind.file)
    with warned(caplog):
        dataset = load(kind, data, url=f"{server.url}/x/")
    assert caplog.text == ""
    assert dataset.grid is not None
    np.testing.assert_array_equal(np.asarray(dataset.grid.images), images)
    server.requests.clear()
    load(kind, data, url=f"{server.url}/x/")
    assert server.requests == []


def test_published_digests_are_of_a_known_kind() -> None:
    for file in (dsprites.FILE, shapes3d.FILE, cars3d.FILE, *mpi3d.FILES.values()):
        assert len(file.digest) in (32, 40, 64)
        int(file.digest, 16)


# --- damage -------------------------------------------------------------------------------------------------------


@each
def test_a_file_cut_off_or_of_another_kind_is_refused_by_name(kind: Kind, tmp_path: Path) -> None:
    kind.write(tmp_path)
    path = tmp_path / kind.file
    whole = path.read_bytes()
    for content in (b"", b"<html>Sign in</html>", whole[: len(whole) // 2], whole[:-50]):
        path.write_bytes(content)
        with refused(path, "get it again"):
            load(kind, tmp_path / "data", tmp_path)
        assert not [name for name in tree(tmp_path / "data") if "images.u8" in name]
    path.unlink()
    path.mkdir()
    with refused(path, "is no file"):
        load(kind, tmp_path / "data", tmp_path)


def test_a_bit_that_flipped_is_noticed_by_the_archives_checksum(tmp_path: Path) -> None:
    write_mpi3d(tmp_path)
    path = tmp_path / "mpi3d_toy.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with refused(path, "CRC"):
        load(KINDS[2], tmp_path / "data", tmp_path)


@pytest.mark.parametrize(
    ("kind", "changed", "mention"),
    [
        (0, {"imgs": np.full((360, SIDE, SIDE), 2, np.uint8)}, "0 or 1"),
        (0, {"imgs": np.zeros((359, SIDE, SIDE), np.uint8)}, "359 images"),
        (0, {"imgs": np.zeros((360, SIDE, SIDE))}, "float64"),
        (0, {"imgs": np.array([Trap("x")] * 3, object)}, "no plain array"),
        (0, {"latents_classes": np.array([{}] * 3, object)}, "no plain array"),
        (0, {"latents_classes": grid_values(DSPRITES)[::-1]}, "not in the order"),
        (0, {"latents_classes": grid_values(DSPRITES)[:, 1:]}, "not [n, 6]"),
        (0, {"latents_classes": grid_values(DSPRITES)[:-1]}, "not a grid"),
        (1, {"images": np.zeros((720, SIDE, SIDE), np.uint8)}, "another kind"),
        (1, {"images": np.zeros((719, SIDE, SIDE, 3), np.uint8)}, "719 images"),
        (1, {"labels": np.zeros((720, 6))}, "not a grid"),
        (1, {"images": h5py.ExternalLink("other.h5", "images")}, "no array images"),
        (3, {"im": np.zeros((128, 128, 3, 24, 5), np.uint8)}, "(128, 128, 3, 24, 5)"),
        (3, {"im": np.zeros((128, 128, 3, 24, 4))}, "double"),
        (3, {"im": np.array([{"a": 1}], object)}, "cell"),
        (4, {"dat": np.zeros((123, 2, 96, 96), np.uint8)}, "images"),
        (4, {"dat": np.zeros((123, 2, 96, 96), np.int32)}, "int32"),
        (2, {"images": np.zeros((7, SIDE, SIDE, 3), np.uint8)}, "7 images"),
        (2, {"images": np.zeros((288, SIDE, SIDE, 3), np.uint8, order="F")}, "no plain array"),
    ],
)
def test_content_that_is_not_the_datasets_is_refused(
    tmp_path: Path, kind: int, changed: dict[str, Any], mention: str
) -> None:
    write_shapes3d(tmp_path)
    (tmp_path / shapes3d.FILE.name).rename(tmp_path / "other.h5")
    KINDS[kind].write(tmp_path, **changed)
    with refused(tmp_path / KINDS[kind].file, mention):
        load(KINDS[kind], tmp_path / "data", tmp_path)
    assert not [name for name in tree(tmp_path / "data") if "images.u8" in name]


@each
def test_a_full_disk_is_said(kind: Kind, tmp_path: Path) -> None:
    kind.write(tmp_path)
    with full_disk(5000), refused("make room", tmp_path / "data"):
        load(kind, tmp_path / "data", tmp_path)


def test_memory_stays_flat_however_many_images_there_are(tmp_path: Path) -> None:
    sizes = (1, 3, 6, 40, 16, 4)  # 46,080 images: 189 MB, 24 MB packed
    classes = grid_values(sizes)
    images = np.zeros((len(classes), 64, 64), np.uint8)
    np.savez_compressed(tmp_path / dsprites.FILE.name, imgs=images, latents_classes=classes)
    outcome = measured(
        [tmp_path],
        "len(load(root=str(path), data_dir=str(path / 'data'), url='', test_fraction=0.1).train)",
        "from vae_runner.datasets.dsprites import load",
    )
    assert outcome[0].said == "41472"
    assert outcome[0].megabytes < 100
