"""Which steps `profile=true` records; tests/cli/test_best_models.py has a run's profile."""

from pathlib import Path

import pytest

from vae_runner.training.profiling import Profile


@pytest.mark.parametrize(("epoch", "profiled"), [(23, [0, 0, 20]), (100, [0, 0, 20]), (4, [0, 0, 2]), (1, [0, 0, 1])])
def test_it_begins_when_the_loop_is_compiled_and_has_as_many_steps_as_there_are_up_to_twenty(
    epoch: int, profiled: list[int], tmp_path: Path
) -> None:
    profile = Profile(tmp_path)
    lefts = [(-call) % epoch or epoch for call in range(3)]
    assert [profile.steps_due(left, epoch) for left in lefts] == profiled
