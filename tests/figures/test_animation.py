"""The frames of an animation; tests/cli/test_best_models.py has those of a run."""

import numpy as np
import pytest

from tests.networks import build
from vae_runner.datasets.dataset import Split
from vae_runner.figures.animation import frame
from vae_runner.figures.trained import Trained


@pytest.mark.parametrize(("shape", "expected"), [((16, 8, 1), (512, 256, 1)), ((128, 64, 3), (512, 256, 3))])
def test_a_frame_has_images_of_about_64_pixels_side_by_side(
    shape: tuple[int, int, int], expected: tuple[int, int, int]
) -> None:
    test = Split(np.zeros((1, *shape), np.uint8))
    trained = Trained(build(shape, filters=2), test, (), [], 1, seed=0)
    pixels = frame(trained)
    assert (pixels.shape, pixels.dtype) == (expected, np.uint8)
