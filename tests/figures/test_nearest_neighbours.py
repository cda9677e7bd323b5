"""The figure of nearest neighbours: which image is where, and what stands at it."""

import numpy as np

from vae_runner.figures.nearest_neighbours import Pairs, nearest_neighbours


def test_samples_stand_above_their_nearest_images_with_the_distance() -> None:
    def of(value: int) -> Pairs:
        grey = np.arange(value, value + 3, dtype=np.uint8)[:, None, None, None] * np.ones((1, 64, 64, 1), np.uint8)
        return Pairs(grey, grey + np.uint8(10), np.array([0.001234, 5, 1234.5]))

    figure = nearest_neighbours({"pixels": of(50), "classifier": of(150)})
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "sample", "nearest by\npixels", "sample", "nearest by\nclassifier",
    ]  # fmt: skip
    texts = [(text.get_text(), text.get_position()) for text in axes.texts if text.get_text()]
    assert [text for text, _ in texts] == ["at 0.00123", "at 5", "at 1.23e+03"] * 2
    canvas = np.round(np.asarray(axes.images[0].get_array()) * 255)
    rows, columns = (np.round(axes.get_yticks()).astype(int), [int(x) for _, (x, _) in texts[:3]])
    found = [[canvas[row, column] for column in columns] for row in rows]
    assert found == [[50, 51, 52], [60, 61, 62], [150, 151, 152], [160, 161, 162]]
    below = {rows[1]: texts[0][1][1], rows[3]: texts[3][1][1]}
    assert all(row - 32 > y > row - 46 for row, y in below.items())
