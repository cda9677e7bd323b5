"""Which image files lie below a folder, and what is passed over there.

Linked folders are followed. A folder is read once, however many links lead to it, and by its own path if it lies below
the root: so links neither go in circles nor give an image to two splits.
"""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from vae_runner.datasets.io import prepared
from vae_runner.errors import UserError
from vae_runner.files.folders import RUN_FILE, SWEEP_FILE
from vae_runner.files.untrusted import readable

SUFFIXES = {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".gif", ".webp"}
UNSUPPORTED = {  # image formats that are not read
    ".ai", ".avif", ".arw", ".cr2", ".cr3", ".dds", ".dng", ".emf", ".eps", ".exr", ".hdr", ".heic", ".heics", ".heif",
    ".hif", ".ico", ".j2k", ".jp2", ".jpf", ".jpx", ".jxl", ".jxr", ".nef", ".orf", ".pbm", ".pcx", ".pgm", ".pnm",
    ".ppm", ".psd", ".raf", ".raw", ".rw2", ".svg", ".svgz", ".tga", ".tif", ".tiff", ".wdp", ".wmf", ".xcf",
}  # fmt: skip
SYSTEM_FOLDERS = {  # thumbnails and deleted files of network storage and operating systems
    "@eaDir", "@Recycle", "@Recently-Snapshot", "#recycle", "#snapshot", "__MACOSX", "$RECYCLE.BIN",
    "System Volume Information", "lost+found",
}  # fmt: skip
OURS = {  # the files that show a folder to be written by this program, whose pictures are no data
    frozenset({RUN_FILE}): "run directories",
    frozenset({SWEEP_FILE}): "sweep directories",
    prepared.FILES: "folders of prepared images",
}
SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test",
    "val": "validation", "valid": "validation", "validation": "validation",
}  # fmt: skip


@dataclass
class Found:
    """The image files below a folder, sorted by path, and what was passed over there."""

    files: list[Path] = field(default_factory=list)
    _counts: Counter[str] = field(default_factory=Counter)
    _first: dict[str, str] = field(default_factory=dict)

    def pass_over(self, kind: str, path: Path, root: Path) -> None:
        """Count a path among those of its kind."""
        self._counts[kind] += 1
        self._first.setdefault(kind, str(path.relative_to(root)))

    @property
    def passed_over(self) -> str:
        """Return how many paths of each kind were passed over, with an example each; empty if none was."""
        return "; ".join(f"{kind}: {count} (like {self._first[kind]})" for kind, count in self._counts.items())


def find_images(root: Path, key: str = "dataset.root=") -> Found:
    """Return the image files below `root`, recognised by their suffix; refuse a folder with none, or unreadable.

    `key` is what comes before the folder in the words of a refusal.
    """
    with readable(root):
        exists, is_folder = root.exists(), root.is_dir()
    if not is_folder:
        what = "is not a folder" if exists else "does not exist"
        raise UserError(f"{key}{root} {what}: give the folder the images are in")
    found = _walk(root)
    if not found.files:
        raise UserError(
            f"{key}{root} holds no image: looked below it for {', '.join(sorted(SUFFIXES))}"
            + (f", and passed over {found.passed_over}" if found.passed_over else "")
        )
    return found


def _walk(root: Path) -> Found:
    found = Found()
    real_root = Path(os.path.realpath(root))
    seen = {str(path) for path in (real_root, *real_root.parents)}
    read: list[Path] = []
    occupied: set[Path] = set()
    folders = [root]
    links: list[Path] = []  # followed last, so that folders below the root are read by their own paths
    while folders or links:
        folder = folders.pop(0) if folders else links.pop(0)
        real = os.path.realpath(folder)
        if folder != root and real in seen:
            found.pass_over("links to folders that are read anyway, or around these", folder, root)
            continue
        seen.add(real)
        with readable(folder), os.scandir(folder) as unsorted:
            entries = sorted(unsorted, key=lambda entry: entry.name)
        ours = next((kind for names, kind in OURS.items() if names <= {entry.name for entry in entries}), None)
        if ours is not None and folder != root:
            found.pass_over(ours, folder, root)
            occupied.update(folder.parents)
            continue
        read.append(folder)
        for entry in entries:
            path, is_folder = folder / entry.name, _is_folder(entry)
            if kind := _passed_over_as(entry, is_folder):
                found.pass_over(kind, path, root)
            elif not is_folder:
                found.files.append(path)
            else:
                (links if entry.is_symlink() else folders).append(path)
    found.files.sort()
    occupied.update(parent for path in found.files for parent in path.parents)
    for folder in sorted(read):
        if folder not in occupied and folder.parent in occupied:
            found.pass_over("folders without an image", folder, root)
    return found


def _passed_over_as(entry: os.DirEntry[str], is_folder: bool) -> str | None:
    """Return as what kind a folder or file is passed over; None for a folder to read, or an image."""
    suffix = Path(entry.name).suffix.lower()
    if entry.name.startswith("."):
        return "hidden folders" if is_folder else "hidden files"
    if is_folder:
        return "folders of thumbnails and the like" if entry.name in SYSTEM_FOLDERS else None
    if entry.is_symlink() and not Path(entry.path).exists():
        return "links that lead nowhere"
    if suffix in SUFFIXES:
        return None
    return f"images in a format that is not read, {suffix}" if suffix in UNSUPPORTED else "other files"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        with readable(Path(entry.path)):
            return entry.is_dir()
    except OSError:  # It is a link to itself.
        return False


def given_splits(root: Path, found: Found) -> dict[str, list[Path]]:
    """Return the images by split ("train", "test", "validation"), if sub-folders of `root` are named after splits.

    It is empty unless there are training images and others. Without test images, the validation images serve as these.
    Images outside of these folders are passed over.
    """
    splits: dict[str, list[Path]] = {}
    beside: list[Path] = []
    for path in found.files:
        first, *deeper = path.relative_to(root).parts
        split = SPLITS.get(first.lower()) if deeper else None
        (splits.setdefault(split, []) if split else beside).append(path)
    if "train" not in splits or len(splits) == 1:
        return {}
    if "test" not in splits:
        splits["test"] = splits.pop("validation")
    for path in beside:
        found.pass_over("images beside the folders of the splits", path, root)
    return splits
