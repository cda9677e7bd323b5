from pathlib import Path

import numpy as np
import pytest

from vae_runner.errors import UserError
from vae_runner.files.growing_arrays import GrowingArrays


def test_arrays_that_grew_are_read_as_numpy_would_have_written_them(tmp_path: Path) -> None:
    path = tmp_path / "codes.npz"
    path.write_bytes(b"an earlier one")
    rows = np.arange(24, dtype=np.float32).reshape(4, 3, 2)
    names = np.array(["a", "bü", "", "longer"], "U6")
    with GrowingArrays(path) as arrays:
        for part in (slice(0, 3), slice(3, 4)):
            arrays.append("rows", rows[part])
            arrays.append("transposed", rows[part].T.swapaxes(0, 2))
            arrays.append("names", names[part])
        arrays.save(shape=np.array([3, 2]))
    stored = np.load(path)
    assert set(stored) == {"rows", "transposed", "names", "shape"}
    for name, expected in (("rows", rows), ("transposed", rows), ("names", names), ("shape", np.array([3, 2]))):
        np.testing.assert_array_equal(stored[name], expected)
        assert stored[name].dtype == expected.dtype
    assert list(tmp_path.iterdir()) == [path]


def test_where_there_is_no_room_the_earlier_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "codes.npz"
    path.write_bytes(b"an earlier one")

    def no_room(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    with GrowingArrays(path) as arrays:
        arrays.append("rows", np.zeros((2, 2)))
        with pytest.raises(UserError, match=r"codes.npz cannot be written \(No space left on device\)"):
            arrays.save()
    assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"an earlier one"]
