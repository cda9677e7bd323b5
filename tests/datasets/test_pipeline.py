import time
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from vae_runner.datasets import pipeline
from vae_runner.datasets.io.stored import StoredImages
from vae_runner.datasets.pipeline import Batches

COUNT, BATCH = 23, 5


@pytest.fixture(scope="module")
def array() -> np.ndarray[Any, Any]:
    """Images whose first pixel is their number; the others are noise."""
    images = np.random.default_rng(0).integers(0, 256, (COUNT, 3, 4, 2), np.uint8)
    images[:, 0, 0, 0] = np.arange(COUNT)
    return images


@pytest.fixture(params=["resident", "stored", "mapped"])
def images(request: pytest.FixtureRequest, array: np.ndarray[Any, Any], tmp_path: Path) -> Any:
    if request.param == "resident":
        return array
    mapped = memory_map(array, tmp_path)
    return StoredImages(tmp_path / "images.u8", array.shape) if request.param == "stored" else mapped


def memory_map(array: np.ndarray[Any, Any], folder: Path) -> np.ndarray[Any, Any]:
    (folder / "images.u8").write_bytes(array.tobytes())
    return np.memmap(folder / "images.u8", np.uint8, "r", shape=array.shape)


def epoch_of(batches: Batches, epoch: int = 0) -> list[np.ndarray[Any, Any]]:
    """The images of an epoch, batch by batch."""
    return [batches.images(share).numpy() for share in islice(batches.shares(epoch), batches.steps)]


def order(batches: Batches, epoch: int = 0) -> list[int]:
    return [int(image[0, 0, 0]) for batch in epoch_of(batches, epoch) for image in batch]


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_an_epoch_has_each_image_once_the_last_smaller_batch_too(
    images: Any, array: np.ndarray[Any, Any], seed: int | None
) -> None:
    batches = Batches(images, BATCH, seed)
    found = epoch_of(batches, 3)
    assert [len(batch) for batch in found] == [5, 5, 5, 5, 3]
    assert batches.steps == 5
    assert batches.count == COUNT
    together = np.concatenate(found)
    np.testing.assert_array_equal(together[np.argsort(together[:, 0, 0, 0])], array)


@pytest.mark.parametrize(("batch", "sizes"), [(1, [1] * COUNT), (22, [22, 1]), (COUNT, [COUNT]), (100, [COUNT])])
def test_any_batch_size_will_do(images: Any, batch: int, sizes: list[int]) -> None:
    batches = Batches(images, batch, 0)
    assert [len(found) for found in epoch_of(batches)] == sizes
    assert batches.steps == len(sizes)


def test_the_order_follows_from_seed_and_epoch_alone(images: Any) -> None:
    batches = Batches(images, BATCH, 1)
    in_turn = [order(batches, epoch) for epoch in range(3)]
    resumed = Batches(images, BATCH, 1)
    assert order(resumed, 2) == in_turn[2]
    assert order(resumed, 0) == in_turn[0]
    np.random.seed(5)  # noqa: NPY002
    tf.random.set_seed(5)
    assert order(resumed, 1) == in_turn[1]
    assert order(Batches(images, 7, 1), 1) == in_turn[1]


def test_the_order_differs_between_epochs_and_seeds(images: Any) -> None:
    orders = [order(Batches(images, BATCH, seed), epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len(set(map(tuple, orders))) == 4
    assert list(range(COUNT)) not in orders


def test_without_a_seed_the_order_is_that_of_the_images(images: Any) -> None:
    batches = Batches(images, BATCH)
    assert order(batches, 0) == order(batches, 1) == list(range(COUNT))


def test_resident_and_streamed_images_make_the_same_batches(array: np.ndarray[Any, Any], tmp_path: Path) -> None:
    resident, streamed = Batches(array, BATCH, 4), Batches(memory_map(array, tmp_path), BATCH, 4)
    assert next(resident.shares(2)).content.dtype == tf.int64  # indices
    assert next(streamed.shares(2)).content.dtype == tf.uint8  # images
    for a, b in zip(epoch_of(resident, 2), epoch_of(streamed, 2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_images_are_bytes_of_a_known_shape_inside_the_step(images: Any) -> None:
    batches, seen = Batches(images, BATCH, 0), []

    @tf.function
    def steps(shares: Any) -> tf.Tensor:
        found = batches.images(next(shares))
        seen.append((found.dtype, found.shape.as_list()))
        return found

    assert steps(batches.shares()).shape == (BATCH, 3, 4, 2)
    assert seen == [(tf.uint8, [None, 3, 4, 2])]


def test_a_large_array_is_streamed(array: np.ndarray[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    expected = epoch_of(Batches(array, BATCH, 0))
    monkeypatch.setattr(pipeline, "RESIDENT_BYTES", array.nbytes - 1)
    large = Batches(array, BATCH, 0)
    assert next(large.shares()).content.dtype == tf.uint8
    for a, b in zip(epoch_of(large), expected, strict=True):
        np.testing.assert_array_equal(a, b)


class Shelf:
    """Something that is indexed like an array, and remembers what was taken from it each time."""

    def __init__(self, count: int) -> None:
        self.shape = (count, 2, 2, 1)
        self.taken: list[list[int]] = []

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, chosen: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        self.taken.append(chosen.tolist())
        return np.broadcast_to((chosen % 256).astype(np.uint8)[:, None, None, None], (len(chosen), *self.shape[1:]))


def test_streaming_reads_a_few_batches_ahead_and_no_more() -> None:
    shelf = Shelf(1000)
    batches = Batches(shelf, 10, 0)
    assert shelf.taken == []
    shares = batches.shares()
    next(shares)
    time.sleep(0.3)  # it has all the time it wants
    assert 1 < len(shelf.taken) < 20
    assert sum(len(share.content) for share in islice(shares, batches.steps - 1)) == 990
    assert [len(chosen) for chosen in shelf.taken[:100]] == [10] * 100


def test_one_iterator_goes_from_epoch_to_epoch_and_begins_where_asked(images: Any) -> None:
    batches = Batches(images, BATCH, 2)
    through = [batches.images(share).numpy() for share in islice(batches.shares(1, first=3), 2 + 2 * batches.steps)]
    expected = [*epoch_of(batches, 1)[3:], *epoch_of(batches, 2), *epoch_of(batches, 3)]
    for found, wanted in zip(through, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize(("room", "batches_ahead"), [(10**9, 4), (85, 2), (1, 1)])
def test_large_batches_are_read_less_far_ahead(monkeypatch: pytest.MonkeyPatch, room: int, batches_ahead: int) -> None:
    monkeypatch.setattr(pipeline, "READ_AHEAD_BYTES", room)
    shelf = Shelf(1000)
    shares = Batches(shelf, 10, 0).shares()  # 40 bytes a batch
    next(shares)
    time.sleep(0.3)
    assert len(shelf.taken) <= 1 + batches_ahead + 2  # one given out, some ahead, and two being read


def test_an_epoch_may_be_left_early(images: Any) -> None:
    batches = Batches(images, BATCH, 0)
    next(batches.shares(0))
    assert sorted(order(batches, 1)) == list(range(COUNT))


@pytest.mark.parametrize(("machines", "replicas"), [(1, 1), (1, 3), (2, 2), (2, 4), (3, 6)])
@pytest.mark.parametrize(("count", "first"), [(40, 0), (41, 0), (46, 0), (46, 2)])
def test_a_machine_reads_the_images_of_its_own_replicas_and_no_others(
    machines: int, replicas: int, count: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "READ_AHEAD_BYTES", 1)  # one batch after the other
    order = np.random.default_rng([0, 3]).permutation(count)
    own, steps = replicas // machines, -(-count // 10)
    shelves = [Shelf(count) for _ in range(machines)]
    found: dict[tuple[int, int], list[int]] = {}
    for machine, shelf in enumerate(shelves):
        batches = Batches(shelf, 10, 0)
        shares = batches._dataset(3, first, tf.distribute.InputContext(machines, machine, replicas))
        for number, share in enumerate(shares.take((steps - first) * own)):
            found[first + number // own, machine * own + number % own] = share.content[:, 0, 0, 0].numpy().tolist()
    for step in range(first, steps):
        batch = order[10 * step : 10 * (step + 1)].tolist()
        parts = [found[step, replica] for replica in range(replicas)]
        assert parts == [batch] * replicas if len(batch) < replicas else list(chain(*parts)) == batch
    for machine, shelf in enumerate(shelves):
        own_shares = [images for (_, replica), images in found.items() if replica // own == machine]
        assert shelf.taken[: len(own_shares)] == own_shares


def test_labels_are_those_of_the_images_of_their_share(images: Any) -> None:
    labels = np.random.default_rng(1).integers(0, 9, COUNT)
    batches = Batches(images, BATCH, 1, labels=labels)
    for share in islice(batches.shares(2), batches.steps):
        numbers = batches.images(share).numpy()[:, 0, 0, 0]
        found = batches.labels(share)
        assert found is not None
        assert found.dtype == tf.int64
        np.testing.assert_array_equal(found, labels[numbers])


def test_without_labels_a_batch_has_none(images: Any) -> None:
    batches = Batches(images, BATCH, 1)
    assert batches.labels(next(batches.shares())) is None
