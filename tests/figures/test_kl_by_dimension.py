"""The bars of KL by dimension."""

import numpy as np
from matplotlib.figure import Figure

from vae_runner.figures.kl_by_dimension import ACTIVE_KL, kl_by_dimension


def bars(figure: Figure) -> list[float]:
    axes = figure.axes[0]
    patches = sorted((patch for patch in axes.patches), key=lambda patch: patch.get_x())
    return [patch.get_y() + patch.get_height() for patch in patches]


def test_dimensions_are_sorted_and_counted_from_1_and_the_threshold_is_drawn() -> None:
    figure = kl_by_dimension(np.array([0.001, 3.0, 0.5]), np.array([1e-4, 0.9, 0.6]))
    np.testing.assert_allclose(bars(figure), [3.0, 0.5, 0.001])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["2", "3", "1"]
    assert figure.axes[0].lines[0].get_ydata()[0] == ACTIVE_KL
    assert "active: 2 of 3 dimensions; KL 3.50 nats" in figure.get_suptitle()


def test_a_collapsed_model_and_many_dimensions_have_a_picture() -> None:
    for latent in (1, 200):
        figure = kl_by_dimension(np.zeros(latent), np.zeros(latent))
        assert f"0 of {latent} dimension" in figure.get_suptitle()
        low, high = figure.axes[0].get_ylim()
        assert low < ACTIVE_KL < high
