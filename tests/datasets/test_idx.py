import gzip
import hashlib
import io
import itertools
import logging
import os
import struct
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests.conftest import examples
from tests.datasets.conftest import (
    IDX_NAMES,
    FileServer,
    damage,
    fuzzed,
    idx_bytes,
    idx_parts,
    measured,
    refused,
    write_idx,
)  # fmt: skip
from vae_runner.datasets import fashion, mnist
from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.io import idx
from vae_runner.datasets.io.idx import IdxDataset, IdxFile, read_idx

arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6))
quick = settings(max_examples=examples(60), deadline=None, derandomize=True, database=None)
LABEL_NAMES = list("abcde")


def files_of(parts: dict[str, np.ndarray[Any, Any]]) -> dict[str, IdxFile]:
    return {part: IdxFile(IDX_NAMES[part], hashlib.md5(idx_bytes(array)).hexdigest()) for part, array in parts.items()}


def load(
    name: str = "mnist",
    *,
    parts: dict[str, np.ndarray[Any, Any]] | None = None,
    root: Path | None = None,
    data_dir: Path,
    url: str = "https://nowhere.invalid",
    limit: int | None = None,
    validation_fraction: float = 0.0,
) -> Dataset:
    """A dataset whose official content is `parts`."""
    files = files_of(idx_parts(0) if parts is None else parts)
    given_root = None if root is None else str(root)
    return IdxDataset(name, files, LABEL_NAMES).load(
        root=given_root, data_dir=str(data_dir), url=url, limit=limit, validation_fraction=validation_fraction
    )


PARTS = {
    "train_images": np.random.default_rng(0).integers(0, 256, (6, 8, 9), np.uint8),
    "train_labels": np.arange(6, dtype=np.uint8) % 5,
    "test_images": np.random.default_rng(1).integers(0, 256, (2, 8, 9), np.uint8),
    "test_labels": np.arange(2, dtype=np.uint8),
}

# --- one file -------------------------------------------------------------------------------------------------


@given(arrays, st.booleans())
@quick
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, array: Any, zipped: bool) -> None:
    path = tmp_path_factory.getbasetemp() / ("x.gz" if zipped else "x")
    path.write_bytes(gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array))
    read = read_idx(path, array.ndim)
    assert read.dtype == np.uint8
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)


@given(arrays, st.booleans(), st.data())
@quick
def test_a_file_cut_off_anywhere_is_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, array: Any, zipped: bool, data: st.DataObject
) -> None:
    content = gzip.compress(idx_bytes(array)) if zipped else idx_bytes(array)
    path = tmp_path_factory.getbasetemp() / ("cut.gz" if zipped else "cut")
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with refused(path):
        read_idx(path, array.ndim)


@pytest.mark.parametrize("longer", [b"\0", bytes(100)])
def test_a_file_longer_than_its_header_says_is_refused(tmp_path: Path, longer: bytes) -> None:
    path = tmp_path / "long"
    path.write_bytes(idx_bytes(np.zeros((2, 3, 4), np.uint8)) + longer)
    with refused(path, "2×3×4", 24 + len(longer)):
        read_idx(path, 3)


@pytest.mark.parametrize(
    "start",
    [bytes([0, 0, 8, 1]), bytes([0, 0, 13, 3]), bytes([1, 0, 8, 3]), b"<!DOCTYPE html>"],
    ids=["labels", "floats", "not zero", "text"],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, start: bytes) -> None:
    path = tmp_path / "images"
    path.write_bytes(start + bytes(12))
    with refused(path, start[:4].hex(), "00000803"):
        read_idx(path, 3)


def test_a_gzip_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(idx_bytes(np.zeros(5, np.uint8)))
    with refused(path, "damaged"):
        read_idx(path, 1)


def test_a_gzip_file_with_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    content = bytearray(gzip.compress(idx_bytes(np.arange(50, dtype=np.uint8))))
    content[-6] ^= 1
    path = tmp_path / "images.gz"
    path.write_bytes(content)
    with refused(path, "damaged"):
        read_idx(path, 1)


def test_a_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with refused(tmp_path):
        read_idx(tmp_path, 1)


NOISE = np.random.default_rng(0).integers(0, 256, (20, 8, 9), np.uint8)
NOISE_FILES = {"images": idx_bytes(NOISE), "images.gz": gzip.compress(idx_bytes(NOISE), mtime=0)}


@given(st.sampled_from(sorted(NOISE_FILES)), st.data())
@fuzzed(250)
def test_of_a_damaged_file_nothing_is_read_but_what_it_says(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    content = data.draw(damage(NOISE_FILES[name], head=20))
    path = tmp_path_factory.getbasetemp() / f"damaged {name}"
    path.write_bytes(content)
    try:
        with refused(path):
            read = read_idx(path, 3)
    except pytest.fail.Exception:  # it was not refused: by its checksum it is what it was, or without one what it says
        if name.endswith(".gz"):
            np.testing.assert_array_equal(read, NOISE)
        else:
            assert idx_bytes(read) == content


@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device"])
def test_what_would_never_end_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = {"pipe": tmp_path / "images", "device": Path("/dev/zero")}.get(kind, tmp_path / "images.gz")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind != "device":
        path.symlink_to("/dev/zero")
    with refused(path, "is no file"):
        read_idx(path, 3)


def header(*shape: int) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)


def zeros(beginning: bytes, blocks: int) -> bytes:
    """A small gzip file of so many times 16 MB of zeros."""
    return gzip.compress(beginning) + gzip.compress(bytes(1 << 24)) * blocks


HUNGRY: dict[str, Callable[[], bytes]] = {
    "unpacks to 4 GB": lambda: zeros(header(60_000, 28, 28), 250),
    "unpacks to 4 GB, as it says": lambda: zeros(header(60_000, 280, 256), 256),
    "says it has 4 billion images": lambda: gzip.compress(header(2**32 - 1, 28, 28)),
    "says it has 1 GB": lambda: gzip.compress(header(1 << 20, 32, 32)),
}


def test_a_file_that_asks_for_more_memory_than_it_may_is_refused(tmp_path: Path) -> None:
    paths = [tmp_path / f"{kind}.gz" for kind in HUNGRY]
    for path, make in zip(paths, HUNGRY.values(), strict=True):
        path.write_bytes(make())
    outcomes = measured(paths, "read_idx(path, 3).shape", "from vae_runner.datasets.io.idx import read_idx")
    for path, outcome in zip(paths, outcomes, strict=True):
        assert outcome.said.startswith(str(path))
        assert outcome.megabytes < 150
        assert outcome.seconds < 20


# --- four files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zipped", [True, False])
def test_root_may_hold_the_files_zipped_or_not(tmp_path: Path, zipped: bool) -> None:
    root = write_idx(tmp_path / "root", idx_parts(7), zipped=zipped)
    dataset = load(root=root, data_dir=tmp_path)
    assert dataset.image_shape == (8, 9, 1)
    assert dataset.train.images.dtype == np.uint8
    np.testing.assert_array_equal(dataset.train.images, 7)
    np.testing.assert_array_equal(dataset.train.labels, [0, 1, 2])
    assert dataset.train.labels is not None
    assert dataset.train.labels.dtype == np.int64
    assert (len(dataset.train), len(dataset.test), dataset.validation) == (3, 1, None)
    assert dataset.label_names == LABEL_NAMES


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["root", "data_dir"])
def test_the_files_may_have_a_dot_in_their_names(tmp_path: Path, zipped: bool, where: str) -> None:
    folder = write_idx(tmp_path / "mnist", idx_parts(7), zipped=zipped)
    for path in list(folder.iterdir()):
        path.rename(path.with_name(path.name.replace("-idx", ".idx")))
        path.with_name(path.name.removesuffix(".gz")).mkdir()  # some archives have folders of the other names as well
    dataset = load(root=folder if where == "root" else None, data_dir=tmp_path)
    np.testing.assert_array_equal(dataset.train.images, 7)
    np.testing.assert_array_equal(dataset.train.labels, [0, 1, 2])


@pytest.mark.parametrize("missing", IDX_NAMES)
def test_a_file_missing_from_root_is_named(tmp_path: Path, missing: str) -> None:
    root = write_idx(tmp_path / "root", idx_parts(7))
    (root / f"{IDX_NAMES[missing]}.gz").unlink()
    with refused(root, f"{IDX_NAMES[missing]}.gz"):
        load(root=root, data_dir=tmp_path)


@pytest.mark.parametrize("root", ["nothing", "file"])
def test_a_root_that_is_no_folder_is_refused(tmp_path: Path, root: str) -> None:
    (tmp_path / "file").touch()
    with refused(tmp_path / root):
        load(root=tmp_path / root, data_dir=tmp_path)


def test_as_many_labels_as_images(tmp_path: Path) -> None:
    parts = idx_parts(7) | {"train_labels": np.zeros(4, np.uint8)}
    root = write_idx(tmp_path, parts)
    with refused(root / "train-images-idx3-ubyte.gz", "3 images", root / "train-labels-idx1-ubyte.gz", "4 labels"):
        load(root=root, data_dir=tmp_path)


def test_a_class_without_a_name_is_refused(tmp_path: Path) -> None:
    root = write_idx(tmp_path, idx_parts(7) | {"test_labels": np.full(1, 5, np.uint8)})
    with refused(root / "t10k-labels-idx1-ubyte.gz", "class 5"):
        load(root=root, data_dir=tmp_path)


def test_training_and_test_images_of_different_size_are_refused(tmp_path: Path) -> None:
    root = write_idx(tmp_path, idx_parts(7) | {"test_images": np.zeros((1, 9, 8), np.uint8)})
    with refused(root / "train-images-idx3-ubyte.gz", "8×9", root / "t10k-images-idx3-ubyte.gz", "9×8"):
        load(root=root, data_dir=tmp_path)


@pytest.mark.parametrize("shape", [(0, 8, 9), (3, 0, 9)])
def test_files_without_an_image_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    labels = np.zeros(shape[0], np.uint8)
    root = write_idx(tmp_path, idx_parts(7) | {"train_images": np.zeros(shape, np.uint8), "train_labels": labels})
    with refused(root / "train-images-idx3-ubyte.gz", "no image"):
        load(root=root, data_dir=tmp_path)


@given(st.sampled_from(sorted(IDX_NAMES)), st.booleans(), st.data())
@fuzzed(150)
def test_of_damaged_files_none_is_taken_without_a_word(
    tmp_path_factory: pytest.TempPathFactory, damaged: str, zipped: bool, data: st.DataObject
) -> None:
    root = write_idx(tmp_path_factory.mktemp("root"), PARTS, zipped=zipped)
    path = root / (IDX_NAMES[damaged] + ".gz" * zipped)
    path.write_bytes(data.draw(damage(path.read_bytes(), head=20)))
    with said() as words:
        try:
            with refused(root):
                dataset = load(parts=PARTS, root=root, data_dir=root)
        except pytest.fail.Exception:
            same = np.array_equal(dataset.train.images[..., 0], PARTS["train_images"]) and (
                np.array_equal(dataset.test.images[..., 0], PARTS["test_images"])
                and np.array_equal(dataset.train.labels, PARTS["train_labels"])
                and np.array_equal(dataset.test.labels, PARTS["test_labels"])
            )
            assert same == (not words)
            assert same or str(path) in words[0]


@contextmanager
def said() -> Iterator[list[str]]:
    """What is logged as a warning."""
    words: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: words.append(record.getMessage())
    logging.getLogger("vae_runner").addHandler(handler)
    try:
        yield words
    finally:
        logging.getLogger("vae_runner").removeHandler(handler)


def test_other_content_than_was_published_is_used_with_a_warning(tmp_path: Path) -> None:
    published, others = idx_parts(7), idx_parts(7) | {"test_images": np.full((1, 8, 9), 6, np.uint8)}
    for parts in (published, others):
        with said() as words:
            load(parts=published, root=write_idx(tmp_path / "root", parts), data_dir=tmp_path)
        assert [IDX_NAMES["test_images"] in word for word in words] == [True] * (parts is others)
        assert not any(IDX_NAMES["train_images"] in word for word in words)


# --- where they are looked for --------------------------------------------------------------------------------


def write_keras_cache(keras_home: Path, name: str, parts: dict[str, np.ndarray[Any, Any]]) -> None:
    """As Keras 3 leaves it: Fashion-MNIST's own four files, or MNIST as one .npz."""
    folder = keras_home / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    if name == "fashion":
        write_idx(folder / "fashion-mnist", parts)
    else:
        renamed = {key: parts[f"{split}_{what}"] for key, (split, what) in NPZ_KEYS.items()}
        np.savez(folder / "mnist.npz", **renamed)


NPZ_KEYS = {
    f"{x}_{split}": (split, what) for x, what in (("x", "images"), ("y", "labels")) for split in ("train", "test")
}


@pytest.mark.parametrize("name", ["fashion", "mnist"])
def test_root_then_data_dir_then_the_keras_cache_then_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: FileServer, name: str
) -> None:
    data_dir, keras_home, official = tmp_path / "data", tmp_path / "keras", idx_parts(4)
    root = write_idx(tmp_path / "root", idx_parts(1))
    in_data_dir = write_idx(data_dir / name, idx_parts(2))
    write_keras_cache(keras_home, name, idx_parts(3))
    monkeypatch.setenv("KERAS_HOME", str(keras_home))
    for part, array in official.items():
        server.files[f"/there/{IDX_NAMES[part]}.gz"] = gzip.compress(idx_bytes(array))

    def value(root: Path | None) -> int:
        dataset = load(name, parts=official, root=root, data_dir=data_dir, url=f"{server.url}/there/")
        values = np.unique(np.concatenate([dataset.train.images, dataset.test.images]))
        assert len(values) == 1
        np.testing.assert_array_equal(dataset.train.labels, [0, 1, 2])
        return int(values[0])

    assert value(root) == 1
    assert value(None) == 2
    in_data_dir.rename(tmp_path / "away")
    assert value(None) == 3
    assert server.requests == []
    keras_home.rename(tmp_path / "keras_away")
    assert value(None) == 4
    assert sorted(request.path for request in server.requests) == sorted(server.files)
    assert {path.name for path in in_data_dir.iterdir()} == {f"{file}.gz" for file in IDX_NAMES.values()}
    server.requests.clear()
    assert value(None) == 4
    assert server.requests == []


def test_only_the_files_that_are_missing_are_downloaded(tmp_path: Path, server: FileServer) -> None:
    parts = idx_parts(4)
    folder = write_idx(tmp_path / "mnist", parts)
    lost = folder / "t10k-labels-idx1-ubyte.gz"
    server.files[f"/{lost.name}"] = lost.read_bytes()
    lost.unlink()
    load(parts=parts, data_dir=tmp_path, url=server.url)
    assert [request.path for request in server.requests] == [f"/{lost.name}"]


def test_a_download_with_other_content_is_refused(tmp_path: Path, server: FileServer) -> None:
    for part, array in idx_parts(5).items():
        server.files[f"/{IDX_NAMES[part]}.gz"] = gzip.compress(idx_bytes(array))
    address = f"{server.url}/train-images-idx3-ubyte.gz"
    md5 = hashlib.md5(idx_bytes(idx_parts(5)["train_images"])).hexdigest()
    with refused(address, md5, tmp_path / "mnist" / "train-images-idx3-ubyte.gz", "dataset=digits"):
        load(parts=idx_parts(4), data_dir=tmp_path, url=server.url)
    assert list((tmp_path / "mnist").iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>Sign in to this network</html>", gzip.compress(bytes(1000))[:-9]],
    ids=["empty", "a page", "cut"],  # a gzip file holds the time it was made, which no test's name may
)
def test_a_download_that_is_no_whole_gzip_file_is_refused(tmp_path: Path, server: FileServer, content: bytes) -> None:
    server.files["/train-images-idx3-ubyte.gz"] = content
    with refused(f"{server.url}/train-images-idx3-ubyte.gz", "dataset=digits"):
        load(data_dir=tmp_path, url=server.url)
    assert list((tmp_path / "mnist").iterdir()) == []


@pytest.mark.parametrize("damage", ["cut", "text", "empty", "lacking", "flat", "objects"])
def test_a_damaged_keras_cache_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    write_keras_cache(tmp_path, "mnist", idx_parts(3))
    path = tmp_path / "datasets" / "mnist.npz"
    whole = path.read_bytes()
    arrays = dict(np.load(path))
    if damage == "lacking":
        del arrays["y_test"]
        np.savez(path, **arrays)
    elif damage == "flat":
        np.savez(path, **arrays | {"x_train": arrays["x_train"].reshape(3, -1)})
    elif damage == "objects":
        np.savez(path, **arrays | {"x_train": np.array([{}, None])}, allow_pickle=True)
    else:
        path.write_bytes({"cut": whole[: len(whole) // 2], "text": b"not found", "empty": b""}[damage])
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with refused(path, "dataset.root"):
        load(data_dir=tmp_path / "data")


def test_a_keras_cache_with_a_wrong_checksum_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_keras_cache(tmp_path, "mnist", idx_parts(3))
    path = tmp_path / "datasets" / "mnist.npz"
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("x_train.npy").header_offset
    content = bytearray(path.read_bytes())
    content[start + 220] ^= 1
    path.write_bytes(content)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with refused(path, "dataset.root"):
        load(data_dir=tmp_path / "data")


@pytest.fixture(scope="module")
def npz(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, bytes]:
    """MNIST as Keras caches it, of `PARTS`, not compressed and compressed."""
    home = tmp_path_factory.mktemp("npz")
    write_keras_cache(home, "mnist", PARTS)
    plain = home / "datasets" / "mnist.npz"
    np.savez_compressed(home / "compressed.npz", **dict(np.load(plain)))
    return {False: plain.read_bytes(), True: (home / "compressed.npz").read_bytes()}


@given(compressed=st.booleans(), data=st.data())
@fuzzed(150)
def test_a_keras_cache_with_any_damage_is_named_or_still_whole(
    tmp_path_factory: pytest.TempPathFactory, npz: dict[bool, bytes], compressed: bool, data: st.DataObject
) -> None:
    home = tmp_path_factory.mktemp("home")
    path = home / "datasets" / "mnist.npz"
    path.parent.mkdir()
    path.write_bytes(data.draw(damage(npz[compressed])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_HOME", str(home))
        try:
            with refused(path):
                dataset = load(parts=PARTS, data_dir=home / "data")
        except pytest.fail.Exception:
            np.testing.assert_array_equal(dataset.train.images[..., 0], PARTS["train_images"])
            np.testing.assert_array_equal(dataset.test.images[..., 0], PARTS["test_images"])
            np.testing.assert_array_equal(dataset.train.labels, PARTS["train_labels"])
            np.testing.assert_array_equal(dataset.test.labels, PARTS["test_labels"])


@pytest.mark.parametrize("kind", ["other dtype", "bomb", "pipe", "claims more", "claims less", "torn"])
def test_a_keras_cache_that_is_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    write_keras_cache(tmp_path, "mnist", PARTS)
    path = tmp_path / "datasets" / "mnist.npz"
    arrays = dict(np.load(path))
    if kind == "other dtype":  # would have to be cut to eight bits
        np.savez(path, **arrays | {"x_train": arrays["x_train"].astype(np.float32)})
    elif kind == "bomb":
        monkeypatch.setattr(idx, "MAX_BYTES", 1 << 20)
        np.savez_compressed(path, **arrays | {"x_train": np.zeros((2000, 28, 28), np.uint8)})
    elif kind == "pipe":
        path.unlink()
        os.mkfifo(path)
    else:
        shape = b"(6, 8, 9), }     "
        other = {"claims more": b"(6, 8, 999999), }", "claims less": b"(6, 8, 8), }     ", "torn": b"(6, 8, 9),       "}
        with zipfile.ZipFile(path, "w") as archive:
            for key, array in arrays.items():
                stream = io.BytesIO()
                np.save(stream, array)
                claims = stream.getvalue().replace(shape, other[kind])
                archive.writestr(f"{key}.npy", claims)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with refused(path, "dataset.root", "x_train has more than 1,048,576 bytes" if kind == "bomb" else ""):
        load(parts=PARTS, data_dir=tmp_path / "data")


def test_labels_that_do_not_fit_are_blamed_on_the_keras_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_keras_cache(tmp_path, "mnist", idx_parts(3) | {"train_labels": np.zeros(2, np.uint8)})
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with refused(tmp_path / "datasets" / "mnist.npz", "3 images", "2 labels"):
        load(data_dir=tmp_path / "data")


# --- the real ones --------------------------------------------------------------------------------------------

REAL = [
    pytest.param(fashion, "fashion-mnist", [6000] * 10, (0.2860, 0.3530), id="fashion"),
    pytest.param(
        mnist, "mnist", [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949], (0.1307, 0.3081), id="mnist"
    ),
]


@pytest.mark.parametrize(("source", "folder", "class_counts", "published"), REAL)
def test_the_real_files_hold_what_is_published(
    real_data: Path,
    tmp_path: Path,
    source: ModuleType,
    folder: str,
    class_counts: list[int],
    published: tuple[float, float],
) -> None:
    dataset = source.load(root=str(real_data / folder), data_dir=str(tmp_path), url="https://nowhere.invalid")
    assert dataset.train.images.shape == (60_000, 28, 28, 1)
    assert dataset.test.images.shape == (10_000, 28, 28, 1)
    assert dataset.validation is None
    assert len(dataset.label_names) == 10
    assert np.bincount(dataset.train.labels).tolist() == class_counts
    assert np.bincount(dataset.test.labels).sum() == 10_000

    counts = np.bincount(dataset.train.images.ravel(), minlength=256)
    values = np.arange(256) / 255
    mean = (counts @ values) / counts.sum()
    deviation = np.sqrt((counts @ (values - mean) ** 2) / counts.sum())
    assert (round(mean, 4), round(deviation, 4)) == published
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("source", "folder", "class_counts", "published"), REAL)
def test_the_md5_constants_are_those_of_the_real_files(
    real_data: Path, source: ModuleType, folder: str, class_counts: object, published: object
) -> None:
    for file in source.FILES.values():
        content = gzip.decompress((real_data / folder / f"{file.name}.gz").read_bytes())
        assert hashlib.md5(content).hexdigest() == file.md5


def test_mnist_is_downloaded_from_where_the_four_files_are(real_data: Path, tmp_path: Path, server: FileServer) -> None:
    for path in (real_data / "mnist").glob("*.gz"):
        server.files[f"/mnist/{path.name}"] = path.read_bytes()
    assert len(server.files) == 4
    dataset = mnist.load(
        root=None, data_dir=str(tmp_path), url=f"{server.url}/mnist", limit=100, validation_fraction=0.1
    )
    assert [len(split) for split in dataset.splits.values()] == [100, 100, 100]
    assert len(server.requests) == 4
    for a, b in itertools.pairwise([dataset.train, dataset.validation, dataset.test]):
        assert a is not None
        assert b is not None
        assert not np.array_equal(a.images, b.images)


def test_the_ankle_boot_comes_first(real_data: Path, tmp_path: Path) -> None:
    root = real_data / "fashion-mnist"
    dataset = fashion.load(root=str(root), data_dir=str(tmp_path), url="https://nowhere.invalid", limit=1)
    assert [dataset.label_names[label] for label in dataset.train.labels] == ["Ankle boot"]
