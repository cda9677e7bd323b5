"""Which steps `profile=true` records; tests/cli/test_best_models.py has a run's profile."""

from pathlib import Path

import pytest
import tensorflow as tf

from vae_runner.errors import UnwritableError, UserError
from vae_runner.files.events import writing_events
from vae_runner.training.profiling import Profile


@pytest.mark.parametrize(("epoch", "profiled"), [(23, [0, 0, 20]), (100, [0, 0, 20]), (4, [0, 0, 2]), (1, [0, 0, 1])])
def test_it_begins_when_the_loop_is_compiled_and_has_as_many_steps_as_there_are_up_to_twenty(
    epoch: int, profiled: list[int], tmp_path: Path
) -> None:
    profile = Profile(tmp_path)
    lefts = [(-call) % epoch or epoch for call in range(3)]
    assert [profile.steps_due(left, epoch) for left in lefts] == profiled


def test_another_profiler_of_the_process_is_named_and_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    tf.profiler.experimental.start(str(tmp_path))
    try:
        with (
            pytest.raises(UserError, match="another profiler runs in this process") as refused,
            Profile(tmp_path).recorded(0, 20),
        ):
            pytest.fail("it was not")
    finally:
        tf.profiler.experimental.stop(save=False)
    assert not isinstance(refused.value, UnwritableError)


def test_an_error_of_tensorflow_without_a_message_is_named_too(tmp_path: Path) -> None:
    with pytest.raises(UnwritableError, match=r"cannot be written \(UnavailableError\)"), writing_events(tmp_path):
        raise tf.errors.UnavailableError(None, None, "")
