"""Images in a file, against the NumPy array that was written to it."""

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vae_runner.datasets.io.stored import StoredImages

ARRAY = np.random.default_rng(0).integers(0, 256, (11, 2, 3, 1), np.uint8)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> StoredImages:
    file = tmp_path_factory.mktemp("stored") / "images.u8"
    file.write_bytes(ARRAY.tobytes())
    return StoredImages(file, ARRAY.shape)


keys = st.one_of(
    st.integers(-11, 10), st.slices(11), st.lists(st.integers(-11, 10), min_size=1).map(np.array),
    st.lists(st.booleans(), min_size=11, max_size=11).map(np.array),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(key=keys)
def test_any_index_gives_what_the_array_gives(stored: StoredImages, key: Any) -> None:
    np.testing.assert_array_equal(np.asarray(stored[key]), ARRAY[key])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(first=st.slices(11), second=st.slices(11))
def test_slices_of_slices_are_those_of_the_array(stored: StoredImages, first: slice, second: slice) -> None:
    found, wanted = stored[first][second], ARRAY[first][second]
    assert (found.shape, found.dtype, len(found)) == (wanted.shape, wanted.dtype, len(wanted))
    np.testing.assert_array_equal(np.asarray(found), wanted)


@pytest.mark.parametrize("key", [11, -12, [0, 11]])
def test_there_is_no_image_beyond_the_last(stored: StoredImages, key: Any) -> None:
    with pytest.raises(IndexError):
        stored[key]
    with pytest.raises(IndexError):
        stored[:4][4]


def test_a_file_that_became_shorter_is_an_error_and_not_other_images(tmp_path: Path) -> None:
    file = tmp_path / "images.u8"
    file.write_bytes(ARRAY.tobytes()[:-1])
    with pytest.raises(OSError, match="ends before image 10"):
        StoredImages(file, ARRAY.shape)[10]


def test_the_file_is_open_once_whoever_reads_and_closed_with_its_last_view(stored: StoredImages) -> None:
    def times_open() -> int:
        gc.collect()
        return sum(path.resolve() == stored.file.resolve() for path in Path("/proc/self/fd").iterdir())

    before = times_open()
    images = StoredImages(stored.file, ARRAY.shape)
    views = [images[i : i + 2] for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for i, pair in enumerate(pool.map(np.asarray, views)):
            np.testing.assert_array_equal(pair, ARRAY[i : i + 2])
    del images
    assert times_open() == before + 1
    del views
    assert times_open() == before


def test_what_was_deleted_after_it_was_opened_is_still_read(tmp_path: Path) -> None:
    file = tmp_path / "images.u8"
    file.write_bytes(ARRAY.tobytes())
    images = StoredImages(file, ARRAY.shape)
    file.unlink()
    np.testing.assert_array_equal(images[[3, 1]], ARRAY[[3, 1]])
