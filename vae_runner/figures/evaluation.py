"""The pictures of an evaluation, from what its metrics have found."""

from collections.abc import Iterator, Mapping
from typing import Any

from matplotlib.figure import Figure

from vae_runner.datasets.dataset import Dataset
from vae_runner.figures.heat_map import importance_map, information_map
from vae_runner.figures.kl_by_dimension import kl_by_dimension
from vae_runner.figures.nearest_neighbours import Pairs, nearest_neighbours

Pictured = Mapping[str, Any]  # what a picture is of, by its name


def figures_of(pictured: Pictured, dataset: Dataset) -> Iterator[tuple[str, Figure]]:
    """Yield the name and the figure of each thing that can be drawn."""
    for name, result in pictured.items():
        match name:
            case "kl_by_dimension":
                yield name, kl_by_dimension(**result)
            case "dci":
                yield name, importance_map(result, dataset.factor_names)
            case "mutual_information":
                yield name, information_map(result, dataset.factor_names)
            case "nearest_neighbours":
                yield name, nearest_neighbours({"pixels": Pairs(**result)})
