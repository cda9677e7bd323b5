"""Arrays that get longer than memory: rows are added one after the other, and become members of an .npz at the end."""

import shutil
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Self

import numpy as np
from numpy.typing import NDArray

from vae_runner.files.atomic import replacing, writing


class GrowingArrays:
    """Arrays by name, kept in temporary files beside the .npz that they become, of which nothing stays behind."""

    def __init__(self, path: Path) -> None:
        """Take the name of the .npz."""
        self._path = path
        self._files: dict[str, IO[bytes]] = {}
        self._empty: dict[str, NDArray[Any]] = {}  # of no rows: the type, and the shape of a row
        self._lengths: dict[str, int] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def append(self, name: str, rows: NDArray[Any]) -> None:
        """Add rows `[n, …]` to an array, all of one type and shape; raise UnwritableError where there is no room."""
        with writing(self._path):
            if name not in self._files:
                file = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115 (closed by the stack)
                self._files[name] = self._stack.enter_context(file)
                self._empty[name], self._lengths[name] = rows[:0], 0
            self._files[name].write(np.ascontiguousarray(rows).data.cast("B"))
            self._lengths[name] += len(rows)

    def save(self, **others: NDArray[Any]) -> None:
        """Write the .npz of these arrays, and of `others`, atomically; raise UnwritableError where that fails."""
        with replacing(self._path) as part, zipfile.ZipFile(part, "w") as archive:
            for name, file in self._files.items():
                file.seek(0)
                empty = self._empty[name]
                header = {
                    "descr": np.lib.format.dtype_to_descr(empty.dtype), "fortran_order": False,
                    "shape": (self._lengths[name], *empty.shape[1:]),
                }  # fmt: skip
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array_header_1_0(member, header)
                    shutil.copyfileobj(file, member, 1 << 20)
            for name, array in others.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
