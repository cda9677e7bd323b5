import time

import pytest

from vae_runner.training.stopwatch import Stopwatch


def test_seconds_add_up_by_what_they_were_spent_on_also_where_it_fails() -> None:
    stopwatch = Stopwatch()
    with stopwatch.on("a"):
        time.sleep(0.02)
    first = stopwatch.seconds["a"]
    with pytest.raises(KeyError), stopwatch.on("a"):
        raise KeyError
    with stopwatch.on("b"):
        pass
    stopwatch.since_start("all")
    assert 0.02 <= first < stopwatch.seconds["a"]
    assert list(stopwatch.seconds) == ["a", "b", "all"]
    assert stopwatch.seconds["all"] >= stopwatch.seconds["a"] + stopwatch.seconds["b"]
