"""The picture of a matrix shows the matrix."""

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tests.known_codes import draw_factors, one_to_one
from vae_runner.evaluation.dci import DCI
from vae_runner.evaluation.mig import mig
from vae_runner.figures.heat_map import heat_map, importance_map, information_map


def test_each_cell_has_its_number_and_colour_where_its_dimension_and_factor_are() -> None:
    values = np.array([[0.1, 0.9], [0.25, 0.0], [0.5, 1.0]])
    figure = heat_map(values, ["shape", "a very long $name"], "Title", "what it is")
    FigureCanvasAgg(figure).draw()
    axes, colours = figure.axes
    numbers = {text.get_position(): text.get_text() for text in axes.texts}
    assert numbers == {(k, j + 1): f"{values[j, k]:.2f}" for j in range(3) for k in range(2)}
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["$z_{1}$", "$z_{2}$", "$z_{3}$"]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["shape", "a very lon…"]
    np.testing.assert_array_equal(axes.images[0].get_array(), values)
    assert list(axes.images[0].get_extent()) == [-0.5, 1.5, 3.5, 0.5]
    assert colours.get_ylabel() == "what it is"


@pytest.mark.parametrize("values", [np.zeros((2, 3)), np.random.default_rng(0).random((200, 3))])
def test_nothing_and_a_large_latent_space_are_drawn(values: np.ndarray) -> None:
    figure = heat_map(values, (), "Title", "label")
    FigureCanvasAgg(figure).draw()
    assert figure.get_figheight() <= 12
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == ["factor 1", "factor 2", "factor 3"]
    assert bool(figure.axes[0].texts) == (len(values) == 2)


def test_maps_of_results_name_their_scores() -> None:
    sizes = np.array([3, 4])
    factors = draw_factors(400, sizes)
    figure = information_map(mig(one_to_one(factors, sizes), factors), ["shape", "scale"])
    np.testing.assert_allclose(figure.axes[0].images[0].get_array(), np.eye(2), atol=0.02)
    assert "MIG 0.9" in figure.get_suptitle()
    result = DCI(0.25, 0.5, 0.75, 1.0, 0.33, np.eye(2), np.array([0.7, 0.8]), 20, 10)
    title = importance_map(result, ["shape", "scale"]).get_suptitle()
    assert title == "DCI: disentanglement 0.25, completeness 0.50\naccuracy 0.75 (guessing: 0.33)"
