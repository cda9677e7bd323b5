import hashlib
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.datasets.conftest import refused
from vae_runner.datasets import sprites
from vae_runner.datasets.dataset import Dataset, check_dataset
from vae_runner.datasets.schema import SPRITES

SIZES = (3, 4, 16, 16, 16)
SMALL = {"image_size": 16, "scales": 2, "orientations": 4, "positions_x": 8, "positions_y": 8}
Refusal = Callable[..., str]


def load(shapes: tuple[str, ...] = ("heart", "arrow", "drop"), **keys: Any) -> Dataset:
    default = {"image_size": 32, "scales": 4, "orientations": 16, "positions_x": 16, "positions_y": 16}
    return sprites.load(shapes=list(shapes), **{"test_fraction": 0.1, **default, **keys})


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load()


def image(dataset: Dataset, *factors: int) -> np.ndarray[Any, Any]:
    assert dataset.grid is not None
    drawn = dataset.grid.images[np.array([np.ravel_multi_index(factors, dataset.factor_sizes)])]
    return np.asarray(drawn)[0, ..., 0].astype(float)


def centroid(pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    rows, columns = np.indices(pixels.shape)
    return np.array([(columns * pixels).sum(), (rows * pixels).sum()]) / pixels.sum()


def test_there_is_an_image_of_every_combination_and_it_says_which(dataset: Dataset) -> None:
    check_dataset(dataset)
    assert dataset.factor_names == ["shape", "scale", "orientation", "x", "y"]
    assert tuple(dataset.factor_sizes) == SIZES
    assert dataset.label_names == ["heart", "arrow", "drop"]
    assert (len(dataset.train), len(dataset.test)) == (44237, 4915)
    assert dataset.grid is not None
    for split in (dataset.train, dataset.test):
        places = np.array([0, 17, len(split) - 1])
        assert split.factors is not None
        assert split.labels is not None
        in_grid = np.ravel_multi_index(tuple(split.factors[places].T), SIZES)
        np.testing.assert_array_equal(split.images[places], dataset.grid.images[in_grid])
        np.testing.assert_array_equal(dataset.grid.factors[in_grid], split.factors[places])
        np.testing.assert_array_equal(split.labels, split.factors[:, 0])


def test_every_image_of_shapes_without_symmetry_is_another_one() -> None:
    dataset = load(**SMALL)
    assert dataset.grid is not None
    images = np.asarray(dataset.grid.images)
    assert len({one.tobytes() for one in images}) == len(images) == 3 * 2 * 4 * 8 * 8


def test_the_pixels_are_these_on_every_machine() -> None:
    every = load(SPRITES, image_size=32, orientations=10)
    assert every.grid is not None
    images = np.asarray(every.grid.images[np.arange(0, len(every.grid), 97)])
    assert (
        hashlib.sha256(images.tobytes()).hexdigest()
        == "a8fba0b4a1e7557619de445d2c20ec79be8d6c704179748d237a86374e89f344"
    )


@pytest.mark.parametrize("shape", SPRITES)
def test_a_shape_moves_by_one_pixel_and_keeps_its_pixels(shape: str) -> None:
    one = load((shape,), scales=2, orientations=3)
    for scale, orientation in itertools.product(range(2), range(3)):
        start = image(one, scale, orientation, 0, 0)
        for x, y in ((1, 0), (0, 1), (15, 15), (7, 2)):
            moved = image(one, scale, orientation, x, y)
            np.testing.assert_array_equal(np.roll(start, (y, x), (0, 1)), moved)
            np.testing.assert_allclose(centroid(moved) - centroid(start), (x, y), atol=1e-9)


@pytest.mark.parametrize("shape", SPRITES)
def test_turning_leaves_the_centre_of_gravity_and_the_area(shape: str) -> None:
    glyphs = sprites.make_glyphs([shape], 16, 1, 7).astype(float)
    for glyph in glyphs:
        np.testing.assert_allclose(centroid(glyph), (16, 16), atol=0.05)
        assert glyph.sum() == pytest.approx(glyphs[0].sum(), rel=0.005)


@pytest.mark.parametrize("radius", [4, 8, 16])
@pytest.mark.parametrize("shape", SPRITES)
def test_the_area_grows_with_the_square_of_the_scale(shape: str, radius: int) -> None:
    areas = sprites.make_glyphs([shape], radius, 6, 8).reshape(6, 8, -1).astype(float).sum(-1)
    scales = np.linspace(0.5, 1, 6)[:, None]
    np.testing.assert_allclose(areas / scales**2, np.broadcast_to(areas[-1].mean(), (6, 8)), rtol=0.03)


def test_areas_are_those_of_the_shapes() -> None:
    square, ellipse = sprites.make_glyphs(["square", "ellipse"], 16, 1, 1).astype(float).sum((1, 2)) / 255
    assert square == pytest.approx(2 * 16**2, rel=0.003)
    assert ellipse == pytest.approx(np.pi * 0.6 * 16**2, rel=0.003)


@pytest.mark.parametrize(("shape", "turns"), [("square", 4), ("ellipse", 2), ("heart", 1), ("arrow", 1), ("drop", 1)])
def test_a_shape_looks_the_same_after_as_many_turns_as_it_is_symmetric(shape: str, turns: int) -> None:
    glyphs = sprites.make_glyphs([shape], 16, 2, 40).reshape(2, 40, -1)
    for of_scale in glyphs:
        assert len({glyph.tobytes() for glyph in of_scale}) == 40 // turns
    np.testing.assert_array_equal(glyphs[:, : 40 - 40 // turns], glyphs[:, 40 // turns :])


def test_a_quarter_turn_is_one_of_the_picture() -> None:
    for glyphs in sprites.make_glyphs(["arrow", "drop"], 8, 1, 4).reshape(2, 4, 17, 17).astype(int):
        for quarter in range(4):
            assert np.abs(np.rot90(glyphs[0], quarter) - glyphs[quarter]).max() <= 16  # lines are rows, not columns
    arrow = sprites.make_glyphs(["arrow"], 16, 1, 1)[0]
    assert np.flatnonzero(arrow.sum(1))[0] == 0  # It points up.
    assert arrow[3].sum() < arrow[10].sum()


def test_orientations_stay_in_their_range() -> None:
    half = sprites.make_glyphs(["drop"], 8, 1, 8, orientation_range=180)
    np.testing.assert_array_equal(half, sprites.make_glyphs(["drop"], 8, 1, 16)[:8])


def test_few_positions_lie_apart_in_the_middle_and_one_value_is_no_factor() -> None:
    two = load(("square",), scales=1, orientations=1, positions_x=4, positions_y=1)
    assert (two.factor_names, two.factor_sizes, two.label_names) == (["x"], [4], ["square"])
    assert two.grid is not None
    found = [centroid(image(two, x)) for x in range(4)]
    np.testing.assert_allclose(np.diff(found, axis=0), [(5, 0)] * 3, atol=1e-9)
    np.testing.assert_allclose(np.mean(found, axis=0), (15.5, 15), atol=0.05)  # lines are a sixteenth apart


def test_dsprites_sizes_have_its_images() -> None:
    dataset = load(
        ("square", "ellipse", "heart"), image_size=64, scales=6, orientations=40, positions_x=32, positions_y=32
    )
    assert dataset.grid is not None
    assert len(dataset.grid) == 737_280
    assert np.asarray(dataset.grid.images[::997]).mean() / 255 == pytest.approx(0.070, abs=0.001)


@pytest.mark.parametrize(
    ("keys", "mentions"),
    [
        ({"shapes": ("hart",)}, ["'hart'", "heart", "arrow"]),
        ({"shapes": ()}, ["at least one"]),
        ({"shapes": ("drop", "drop")}, ["each once"]),
        ({"image_size": 30}, ["30", "multiple of 4"]),
        ({"positions_x": 17}, ["positions_x=17", "room for 16"]),
        ({"positions_y": 17}, ["positions_y=17", "room for 16"]),
        ({"orientations": 360, "scales": 32, "shapes": SPRITES}, ["14,745,600"]),
        ({"orientations": 360, "scales": 32, "image_size": 256, "positions_x": 1}, ["256 MB"]),
        ({"shapes": ("drop",), "scales": 1, "orientations": 1, "positions_x": 1, "positions_y": 1}, ["one image"]),
    ],
)
def test_what_cannot_be_drawn_is_refused(keys: dict[str, Any], mentions: list[str]) -> None:
    with refused(*mentions):
        load(**keys)


def test_the_command_refuses_before_there_is_a_run(refusal: Refusal, tmp_path: Any) -> None:
    for arguments, mention in (
        ("dataset.shapes=[hart]", "there is no shape 'hart'. Did you mean 'heart'?"),
        ("dataset.positions_x=20", "positions_x=20: images of 32 pixels have room for 16"),
        ("dataset.scales=0", "dataset.scales=0: must be at least 1"),
        ("dataset.image_size=34", "multiple of 4"),
    ):
        assert mention in refusal("vae-run", "dataset=sprites", arguments, cwd=tmp_path)
    assert not list(tmp_path.iterdir())
