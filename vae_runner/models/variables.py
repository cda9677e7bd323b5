"""The variables of networks, families, losses and optimizers, under the names by which files keep them."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[np.generic]]


class HasVariables(Protocol):
    """A part of an experiment that may own variables."""

    @property
    def variables(self) -> Sequence[tf.Variable]:
        """All of them, in an order that follows from the configuration."""


class Variables:
    """All variables of named parts, by part and number: `encoder/0`, `encoder/1`, …

    A variable of several parts belongs to the first of them.
    """

    def __init__(self, parts: Mapping[str, HasVariables]) -> None:
        self._variables: dict[str, tf.Variable] = {}
        seen: set[int] = set()
        for name, part in parts.items():
            own = [variable for variable in part.variables if id(variable) not in seen]
            self._variables |= {f"{name}/{number}": variable for number, variable in enumerate(own)}
            seen |= {id(variable) for variable in own}

    def values(self) -> dict[str, NDArray[np.generic]]:
        """Return the current value of each, in the variable's shape and dtype."""
        return {name: np.asarray(variable) for name, variable in self._variables.items()}

    def mismatch(self, values: Arrays) -> str:
        """Return in words how `values` differ in name, shape or dtype from these variables; "" where they fit."""
        expected = {name: (str(v.dtype), tuple(v.shape)) for name, v in self._variables.items()}
        found = {name: (str(value.dtype), value.shape) for name, value in values.items()}
        if expected == found:
            return ""
        name = min(dict(expected.items() ^ found.items()))
        ours, theirs = (" ".join(map(str, kinds.get(name, ("not there",)))) for kinds in (expected, found))
        return f"{name} is {theirs}, where the configuration makes it {ours}"

    def assign(self, values: Arrays) -> None:
        """Assign `values`, of which `mismatch` says nothing."""
        for name, variable in self._variables.items():
            variable.assign(values[name])
