"""Google's Cartoon Set: cartoon faces, 500×500 RGBA with a transparent background (Google LLC, CC BY 4.0)."""

from pathlib import Path
from typing import Any

from vae_runner.datasets import folder
from vae_runner.datasets.dataset import Dataset
from vae_runner.datasets.io.download import UNREADABLE_ARCHIVE, download, one_process, open_archive, unpack
from vae_runner.files.untrusted import readable

MAX_BYTES = 20_000_000_000  # of an archive, packed and unpacked: several times the larger variant
MAX_MEMBERS = 1_000_000


def load(*, variant: str, root: str | None, data_dir: str, url: str, **preprocessing: Any) -> Dataset:
    """Return the faces in `root`, else in `data_dir`, downloaded if need be; `preprocessing` is as in `folder.load`."""
    if root is None:
        root = str(_downloaded(f"cartoonset{variant}", Path(data_dir).expanduser(), url))
    return folder.load(root=root, data_dir=data_dir, **preprocessing)


def _downloaded(name: str, data_dir: Path, url: str) -> Path:
    target = data_dir / name
    with readable(target):
        if target.is_dir():
            return target
    with one_process(target):
        if target.is_dir():  # Another process has made it meanwhile.
            return target
        archive = data_dir / f"{name}.tgz"
        if not archive.exists():
            advice = f"or unpack it into {target}, or use dataset=digits, which needs no download"
            download(f"{url.rstrip('/')}/{name}.tgz", archive, _check_archive, advice, MAX_BYTES)
        unpack(archive, target, MAX_BYTES, MAX_MEMBERS)
        archive.unlink()
    return target


def _check_archive(path: Path) -> str | None:
    try:
        with open_archive(path):
            return None
    except UNREADABLE_ARCHIVE as error:
        return f"is no .tgz archive ({error})"
