import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.datasets.conftest import FileServer, numbers, refused, tree
from vae_runner.datasets import cartoon
from vae_runner.datasets.dataset import Dataset

NOWHERE = "https://nowhere.invalid"


def load(
    data_dir: Path, *, root: Path | None = None, variant: str = "10k", url: str = NOWHERE, **other: Any
) -> Dataset:
    preprocessing = {"image_size": 16, "channels": 3, "background": "white", "crop": False} | other
    return cartoon.load(
        variant=variant, root=None if root is None else str(root), data_dir=str(data_dir), url=url, **preprocessing
    )


# --- the real faces -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("background", "corner"), [("white", (255, 255, 255)), ("#102030", (16, 32, 48))])
def test_the_real_faces_stand_on_the_background(
    real_data: Path, tmp_path: Path, background: str, corner: tuple[int, int, int]
) -> None:
    dataset = load(tmp_path, root=real_data / "cartoonset", image_size=256, background=background)
    assert dataset.image_shape == (256, 256, 3)
    assert (len(dataset.train), len(dataset.test)) == (27, 3)
    images = np.concatenate([dataset.train.images, dataset.test.images])
    for row, column in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        np.testing.assert_array_equal(images[:, row, column], np.broadcast_to(np.uint8(corner), (30, 3)))
    assert (images.reshape(30, -1).std(1) > 20).all()  # and there is a face on it
    assert len({image.tobytes() for image in images}) == 30


def test_a_real_face_is_composited_as_the_alpha_channel_says(real_data: Path, tmp_path: Path) -> None:
    files = sorted((real_data / "cartoonset").glob("*.png"))[:2]
    root = tmp_path / "two"
    root.mkdir()
    for file in files:
        (root / file.name).write_bytes(file.read_bytes())
    dataset = load(tmp_path, root=root, image_size=500, background="#102030", test_fraction=0.5)
    composited = []
    for file in files:
        pixels = np.asarray(Image.open(file)).astype(float)
        alpha = pixels[..., 3:] / 255
        composited.append(pixels[..., :3] * alpha + np.array([16, 32, 48]) * (1 - alpha))
    ours = [np.asarray(split.images[0]).astype(float) for split in (dataset.train, dataset.test)]
    distances = [[np.abs(a - b).max() for b in composited] for a in ours]
    assert sorted(np.argmin(distances, axis=1)) == [0, 1]
    assert np.min(distances, axis=1).max() <= 1


# --- the download ---------------------------------------------------------------------------------------------


def archive(folders: list[str], count: int = 12) -> bytes:
    """An archive like Google's: numbered faces and a CSV each, in these folders in turn."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for number in range(count):
            png = io.BytesIO()
            Image.new("RGBA", (50, 50), (number, number, number, 255)).save(png, "PNG")
            for suffix, content in (("png", png.getvalue()), ("csv", b'"eye_angle", 0, 3\n')):
                member = tarfile.TarInfo(f"{folders[number % len(folders)]}/cs{number}.{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return stream.getvalue()


LAYOUTS = {"10k": ["cartoonset10k"], "100k": [f"cartoonset100k/{digit}" for digit in range(3)]}


@pytest.mark.parametrize("variant", LAYOUTS)
def test_the_archive_is_downloaded_and_unpacked_once(tmp_path: Path, server: FileServer, variant: str) -> None:
    name = f"cartoonset{variant}"
    server.files[f"/faces/{name}.tgz"] = archive(LAYOUTS[variant])
    server.breaks = 1
    data_dir = tmp_path / "data"
    dataset = load(data_dir, variant=variant, url=f"{server.url}/faces/", labels="folders", test_fraction=0.25)
    assert sorted(numbers(dataset.train.images) + numbers(dataset.test.images)) == list(range(12))
    assert dataset.label_names == LAYOUTS[variant]
    assert {path.name for path in data_dir.iterdir()} == {name, "prepared"}
    assert len(list((data_dir / name).rglob("*.csv"))) == 12
    assert [request.path for request in server.requests] == [f"/faces/{name}.tgz"] * 2
    assert server.requests[1].range is not None

    server.requests.clear()
    again = load(data_dir, variant=variant, url=f"{server.url}/faces/", test_fraction=0.25)
    assert server.requests == []
    np.testing.assert_array_equal(again.train.images, dataset.train.images)


def test_the_variants_lie_side_by_side(tmp_path: Path, server: FileServer) -> None:
    for variant, folders in LAYOUTS.items():
        server.files[f"/cartoonset{variant}.tgz"] = archive(folders, 12 if variant == "10k" else 15)
    assert len(load(tmp_path, variant="10k", url=server.url, test_fraction=1 / 3).train) == 8
    assert len(load(tmp_path, variant="100k", url=server.url, test_fraction=1 / 3).train) == 10


def test_an_archive_put_there_by_hand_is_unpacked(tmp_path: Path) -> None:
    (tmp_path / "cartoonset10k.tgz").write_bytes(archive(["cartoonset10k"]))
    assert len(load(tmp_path, test_fraction=0.25).train) == 9
    assert {path.name for path in tmp_path.iterdir()} == {"cartoonset10k", "prepared"}


@pytest.mark.parametrize(
    "content", [b"", b"<html>Sign in to this network</html>", archive(["x"])[:20]], ids=["empty", "html", "cut"]
)
def test_what_is_no_archive_is_refused_and_removed(tmp_path: Path, server: FileServer, content: bytes) -> None:
    server.files["/cartoonset10k.tgz"] = content
    with refused(f"{server.url}/cartoonset10k.tgz", tmp_path / "cartoonset10k", "dataset=digits"):
        load(tmp_path, url=server.url)
    assert tree(tmp_path) == set()


def test_a_damaged_archive_gives_no_folder_of_faces(tmp_path: Path, server: FileServer) -> None:
    whole = archive(["cartoonset10k"])
    server.files["/cartoonset10k.tgz"] = whole[: len(whole) // 2]
    for _ in range(2):
        with refused(tmp_path / "cartoonset10k.tgz", "get it again"):
            load(tmp_path, url=server.url)
        assert tree(tmp_path) == {"cartoonset10k.tgz"}


def test_where_there_is_no_network_the_message_names_the_way_out(tmp_path: Path, server: FileServer) -> None:
    with refused(
        f"{server.url}/cartoonset10k.tgz", tmp_path / "cartoonset10k.tgz", tmp_path / "cartoonset10k", "dataset=digits"
    ):
        load(tmp_path, url=server.url)
    assert tree(tmp_path) == set()
