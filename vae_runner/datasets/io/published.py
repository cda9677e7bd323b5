"""The files of published datasets: where they are looked for, and whether they are the published ones."""

import hashlib
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from vae_runner.datasets.io.download import download
from vae_runner.errors import UserError
from vae_runner.files.untrusted import is_file, readable

log = logging.getLogger(__name__)

ALGORITHMS = {32: "md5", 40: "sha1", 64: "sha256"}  # by the length of their digests in hexadecimal


class PublishedFile(NamedTuple):
    """A file of a published dataset: its official name, the digest of its content where it is known, and its size."""

    name: str
    digest: str
    max_bytes: int  # of a download


def find(dataset: str, files: Sequence[PublishedFile], root: str | None, data_dir: str, url: str) -> list[Path]:
    """Return where files are: in `root`, else in the folder `dataset` of `data_dir`, downloaded from `url` if need be.

    Raises:
        UserError: `root` lacks one of them, or it cannot be downloaded, or is not the published one.
    """
    folder = Path(data_dir).expanduser() / dataset if root is None else Path(root).expanduser()
    for file in files:
        path = folder / file.name
        with readable(path):
            if path.exists() and not is_file(path):
                raise UserError(f"{path} is no file but a folder, a pipe or a device: replace it")
            if path.exists():
                continue
        if root is not None:
            raise UserError(f"dataset.root={root}: there is no {file.name} in it")
        download(
            f"{url.rstrip('/')}/{file.name}", path, partial(other_content, file),
            "or use dataset=sprites, which needs no download", file.max_bytes, plain=bool(file.digest),
        )  # fmt: skip
    return [folder / file.name for file in files]


def other_content(file: PublishedFile, path: Path) -> str | None:
    """Return what is wrong with a file that is not the published one, or None."""
    if not file.digest:
        return None
    algorithm = ALGORITHMS[len(file.digest)]
    with readable(path), path.open("rb") as stream:
        found = hashlib.file_digest(stream, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()
    return None if found == file.digest else f"has content of {algorithm.upper()} {found}, not {file.digest}"


def warn_of_other_content(file: PublishedFile, path: Path) -> None:
    """Log that a file is not the published one: another of that layout may be meant, or a bit has flipped."""
    if problem := other_content(file, path):
        log.warning("Not the published %s, but taken as it is: %s %s", file.name, path, problem)
