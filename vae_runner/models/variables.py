"""The variables of networks, families and optimizers, under names by which files keep them."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Arrays = Mapping[str, np.ndarray[Any, Any]]


class Variables:
    """All variables of named parts: `encoder/0`, `encoder/1`, …"""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._variables = {
            f"{name}/{number}": variable
            for name, part in parts.items()
            for number, variable in enumerate(part.variables)
        }

    def values(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return what they hold now."""
        return {name: np.asarray(variable) for name, variable in self._variables.items()}

    def mismatch(self, values: Arrays) -> str:
        """Return how `values` are of other variables than these, in words; nothing where they fit."""
        expected = {name: (str(v.dtype), tuple(v.shape)) for name, v in self._variables.items()}
        found = {name: (str(value.dtype), value.shape) for name, value in values.items()}
        if expected == found:
            return ""
        name = min(dict(expected.items() ^ found.items()))
        ours, theirs = (" ".join(map(str, kinds.get(name, ("not there",)))) for kinds in (expected, found))
        return f"{name} is {theirs}, where the configuration makes it {ours}"

    def assign(self, values: Arrays) -> None:
        """Give them values, which must fit."""
        for name, variable in self._variables.items():
            variable.assign(values[name])
