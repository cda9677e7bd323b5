"""Errors reach the other processes of a launcher as they were raised."""

import pickle
from pathlib import Path

import pytest

from vae_runner.datasets.io.preprocessing import BrokenImageError
from vae_runner.errors import Interrupted, UnfitError, UntrustedError


@pytest.mark.parametrize(
    "error",
    [
        UntrustedError("here", "mine", "trust=[{}]"),
        UnfitError("a line"),
        BrokenImageError(Path("a.png"), "is empty", "delete it"),
        Interrupted(15, "continue it"),
    ],
)
def test_an_error_is_the_same_in_another_process(error: BaseException) -> None:
    found = pickle.loads(pickle.dumps(error))
    assert type(found) is type(error)
    assert str(found) == str(error)
    assert vars(found) == vars(error)
