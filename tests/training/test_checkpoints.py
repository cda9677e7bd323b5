import hashlib
import io
import json
import re
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.networks import build
from vae_runner.acceleration.optimizers import Adam
from vae_runner.models.variables import Variables
from vae_runner.training.checkpoints import Checkpoint, Checkpoints, DamagedError
from vae_runner.training.inner import Sums
from vae_runner.training.outer import Position
from vae_runner.training.schema import CheckpointConfig
from vae_runner.training.selection import Selection

SUMS = Sums(np.array([1 / 3, 2e-300]), 48.0, -1, np.zeros(2))


def make(sums: Sums | None = SUMS) -> Checkpoint:
    rows = [{"epoch": 1, "step": 10, "test/loss": 0.1 + 0.2}]
    arrays = {"encoder/0": np.arange(6, dtype=np.float32).reshape(2, 3), "optimizer/0": np.array(7, np.int64)}
    return Checkpoint(Position(2, 3, sums, 1.5, 99.5), rows, {"training": 2.25}, {"latent": 2, "a": [1, None]}, arrays)


WHOLE = make().to_bytes()


@pytest.mark.parametrize("sums", [SUMS, None])
def test_a_checkpoint_comes_back_to_the_last_bit(sums: Sums | None) -> None:
    before = make(sums)
    after = Checkpoint.from_bytes(before.to_bytes())
    assert (after.rows, after.seconds, after.config) == (before.rows, before.seconds, before.config)
    assert (after.position.epoch, after.position.steps, after.position.seconds) == (2, 3, 1.5)
    assert after.position.images_per_second == 99.5
    assert after.variables.keys() == before.variables.keys()
    for name, value in before.variables.items():
        np.testing.assert_array_equal(after.variables[name], value, strict=True)
    if sums is None:
        assert after.position.sums is None
    else:
        assert after.position.sums is not None
        np.testing.assert_array_equal(after.position.sums.terms, sums.terms, strict=True)
        assert after.position.sums.images == 48


def broken(content: bytes) -> bool:
    with pytest.raises(DamagedError):
        Checkpoint.from_bytes(content)
    return True


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_any_changed_byte_is_recognised(place: int, change: int) -> None:
    content = bytearray(WHOLE)
    content[place] ^= change
    assert broken(bytes(content))


@given(st.integers(0, len(WHOLE) - 1))
def test_any_cut_is_recognised(length: int) -> None:
    assert broken(WHOLE[:length])


@given(st.binary(min_size=1, max_size=100))
def test_anything_added_is_recognised(more: bytes) -> None:
    assert broken(WHOLE + more)
    assert broken(more + WHOLE)


def test_a_doubled_file_is_recognised() -> None:
    assert broken(WHOLE + WHOLE)


def test_a_pickle_in_a_file_with_the_right_checksum_is_not_loaded() -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("a pickle was loaded",))

    buffer = io.BytesIO()
    np.savez(buffer, state=np.array([Evil()], dtype=object))
    assert broken(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())


@pytest.mark.parametrize(
    "rows",
    [
        [{"epoch": 2, "step": 20, "test/loss": 1.0}],  # the epoch under way
        [{"epoch": 1, "step": -1, "test/loss": 1.0}],
        [{"epoch": 1, "step": 10, "test/loss": "low"}],
    ],
)
def test_rows_that_are_not_those_of_epochs_before_are_recognised(rows: list[dict[str, Any]]) -> None:
    assert broken(replace(make(), rows=rows).to_bytes())


def test_a_later_format_is_named() -> None:
    buffer = io.BytesIO()
    np.savez(buffer, state=np.frombuffer(json.dumps({"format": 99}).encode(), np.uint8))
    with pytest.raises(DamagedError, match="format 99"):
        Checkpoint.from_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())


def variables(filters: int = 4, scaled: bool = False) -> tuple[Variables, list[Any]]:
    autoencoder = build((8, 8, 1), filters=filters)
    optimizer: Any = Adam(1e-3)
    if scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    optimizer.build(autoencoder.trainable_variables)
    held = [*autoencoder.encoder.variables, *autoencoder.decoder.variables, *optimizer.variables]
    return Variables({**autoencoder.parts, "optimizer": optimizer}), held


@pytest.mark.parametrize("scaled", [False, True])
def test_networks_optimizer_and_loss_scale_are_all_kept(scaled: bool) -> None:
    one, held = variables(scaled=scaled)
    for number, variable in enumerate(held):
        variable.assign(np.full(variable.shape, number))
    other, restored = variables(scaled=scaled)
    other.assign(one.values())
    for a, b in zip(held, restored, strict=True):
        np.testing.assert_array_equal(a, b)
    names = {name.split("/")[0] for name in one.values()}
    assert names == {"encoder", "decoder", "optimizer"}


def test_variables_of_another_network_or_without_a_loss_scale_are_recognised() -> None:
    one, _ = variables()
    for other, _ in (variables(filters=5), variables(scaled=True)):
        assert re.match(r"\w+/\d+ is .*, where the configuration makes it ", other.mismatch(one.values()))
    assert one.mismatch(one.values()) == ""


class Kept:
    """A store that records what is saved and what is kept."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def save(self, step: int, content: bytes) -> None:
        self.steps.append(step)

    def prune(self, newest: int, steps: Any) -> None:
        kept = sorted(self.steps, reverse=True)
        self.steps = [step for step in self.steps if step in kept[:newest] or step in steps]


BY_LOSS, NONE = Selection("validation/loss"), Selection(None)


def run(config: CheckpointConfig, losses: list[float], selection: Selection = BY_LOSS) -> list[int]:
    """The steps, ten an epoch, of the checkpoints that are left of a run with these validation losses."""
    rows: list[dict[str, float]] = []
    store = Kept()
    checkpoints = Checkpoints(
        config, store, lambda: (len(rows) * 10, Checkpoint(Position(len(rows) + 1), rows, {}, {}, {})), selection
    )
    for epoch, loss in enumerate(losses, 1):
        rows.append({"epoch": epoch, "step": epoch * 10, "validation/loss": loss})
        checkpoints.after_epoch(rows, last=epoch == len(losses))
    return sorted(store.steps)


def test_the_newest_and_the_best_are_kept() -> None:
    assert run(CheckpointConfig(keep=2), [5, 1, 3, 4, 5, 6]) == [20, 50, 60]
    assert run(CheckpointConfig(keep=1), [5, 1, 3], NONE) == [30]
    settled = Selection("validation/loss", is_settled=lambda epoch: epoch > 2)
    assert run(CheckpointConfig(keep=1), [5, 1, 3, 4], settled) == [30, 40]


def test_they_come_every_so_many_epochs_for_the_best_and_at_the_end() -> None:
    assert run(CheckpointConfig(every=3, keep=9), [5, 6, 6, 2, 7, 7, 7]) == [10, 30, 40, 60, 70]
    assert run(CheckpointConfig(every=0, keep=9), [5, 4, 3], NONE) == [30]


def test_one_comes_when_a_signal_ends_what_is_inside_and_not_when_a_fault_does() -> None:
    store = Kept()
    checkpoints = Checkpoints(CheckpointConfig(), store, lambda: (7, make()), NONE)
    for ending, steps in [(RuntimeError, []), (KeyboardInterrupt, [7])]:
        with pytest.raises(ending), checkpoints.when_interrupted():
            raise ending
        assert store.steps == steps


def test_within_an_epoch_they_come_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1000, 1119, 1120, 1120, 1230, 1240, 1240])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    store = Kept()
    checkpoints = Checkpoints(CheckpointConfig(every_minutes=2), store, lambda: (7, make()), NONE)
    for count in (0, 1, 1, 2):  # the clock is asked, and asked again when one has been written
        checkpoints.within_epoch()
        assert len(store.steps) == count
