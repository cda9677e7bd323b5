"""Files of a run with bytes changed, cut, or doubled: refused, or as they were; never silently wrong."""

import contextlib
import csv
import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from vae_runner.cli import commands
from vae_runner.errors import UserError
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.report import Report

FUZZED = settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

Damage = Callable[[bytes], bytes]
places = st.floats(0, 1, exclude_max=True)  # of the content


def change(place: float, by: int) -> Damage:
    def damage(content: bytes) -> bytes:
        changed = bytearray(content)
        changed[int(place * len(content))] ^= by
        return bytes(changed)

    return damage


def digit(place: float, by: int) -> Damage:
    """Another digit: what only a checksum can tell."""

    def damage(content: bytes) -> bytes:
        at = [i for i, byte in enumerate(content) if chr(byte).isdigit()]
        changed = bytearray(content)
        chosen = at[int(place * len(at))]
        changed[chosen] = ord("0") + (changed[chosen] - ord("0") + by) % 10
        return bytes(changed)

    return damage


damages = st.one_of(
    st.builds(change, places, st.integers(1, 255)),
    st.builds(digit, places, st.integers(1, 9)),
    st.builds(lambda place: lambda content: content[: int(place * len(content))], places),
    st.builds(lambda place: lambda content: content[int(place * len(content)) :], places),
    st.builds(
        lambda place, more: lambda c: c[: int(place * len(c))] + more + c[int(place * len(c)) :], places, st.binary()
    ),
    st.builds(
        lambda a, b: lambda c: c[: int(max(a, b) * len(c))] + c[int(min(a, b) * len(c)) :], places, places
    ),  # a part twice
    st.just(lambda content: content + content),
    st.just(lambda content: bytes(len(content))),
)


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    (tmp_path / "sweep").mkdir()
    return Path(shutil.copytree(finished_run, tmp_path / "sweep" / "run"))


@FUZZED
@given(damages)
def test_a_run_json_is_as_it_was_or_refused(run: Path, finished_run: Path, damage: Damage) -> None:
    (run / "run.json").write_bytes(damage((finished_run / "run.json").read_bytes()))
    with contextlib.suppress(UserError):
        assert RunDirectory.open_finished(run).info == RunDirectory(finished_run).info


@FUZZED
@given(damages)
def test_a_configuration_is_as_it_was_or_refused(run: Path, finished_run: Path, damage: Damage) -> None:
    (run / "config.yaml").write_bytes(damage((finished_run / "config.yaml").read_bytes()))
    with contextlib.suppress(UserError):
        assert RunDirectory.open_finished(run).config == RunDirectory(finished_run).config


@FUZZED
@given(damages)
def test_a_sweep_json_is_as_it_was_or_refused(tmp_path: Path, damage: Damage) -> None:
    sweep = SweepDirectory(tmp_path)
    sweep.delete_own_files()
    sweep.begin(["latent=2,8", "seed=0"], ["latent", "seed"])
    before = sweep.info
    file = tmp_path / "sweep.json"
    file.write_bytes(damage(file.read_bytes()))
    with contextlib.suppress(UserError):
        assert sweep.info == before


@settings(FUZZED, max_examples=examples(30))
@given(damages, st.sampled_from(["run.json", "config.yaml"]))
def test_a_damaged_run_is_named_in_its_sweep_and_hides_no_other(
    run: Path, finished_run: Path, damage: Damage, name: str
) -> None:
    other = run.with_name("other")
    if not other.exists():
        shutil.copytree(finished_run, other)
    SweepDirectory(run.parent).begin(["seed=0,1"], ["seed"])
    (run / name).write_bytes(damage((finished_run / name).read_bytes()))
    report = Report(SweepDirectory(run.parent))
    report.write()
    (run / name).write_bytes((finished_run / name).read_bytes())
    whole, damaged = sorted(report.runs, key=lambda told: told.name)
    assert (whole.name, whole.status) == ("other", "finished")
    if damaged.status != "damaged":
        assert (damaged.status, damaged.metrics, damaged.config) == ("finished", whole.metrics, whole.config)


def test_a_resumed_run_writes_the_metrics_of_the_epochs_before_anew_from_its_checkpoint(
    run: Path, finished_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = list(csv.reader((finished_run / "metrics.csv").open(newline="")))
    (run / "metrics.csv").write_bytes(b"\x00garbage,\n" * 3)
    monkeypatch.setattr("logging.config._clearExistingHandlers", lambda: None)
    monkeypatch.chdir(run.parent)
    monkeypatch.setattr(sys, "argv", ["vae-run", "resume=run", "epochs=4", "figures.final={}", "figures.periodic={}"])
    commands.run()
    after = list(csv.reader((run / "metrics.csv").open(newline="")))
    assert after[:-1] == before
    assert len(after) == 5
    assert json.loads((run / "run.json").read_text())["metrics"]["test/loss"] == float(
        after[-1][after[0].index("test/loss")]
    )


@settings(FUZZED, max_examples=examples(10))
@given(damages)
@example(lambda content: content[: content.index(b"figures:")])
@example(lambda content: re.sub(rb"\nepochs: \d+", b"", content))
@example(lambda content: content.replace(b"beta_2", b"beta_9"))
def test_a_run_with_a_damaged_configuration_does_not_go_on(
    run: Path, finished_run: Path, refusal: Callable[..., str], damage: Damage
) -> None:
    content = (finished_run / "config.yaml").read_bytes()
    (run / "config.yaml").write_bytes(damage(content))
    (run / "run.json").write_bytes((finished_run / "run.json").read_bytes())
    shutil.rmtree(run / "checkpoints", ignore_errors=True)  # which would tell, too
    if (run / "config.yaml").read_bytes() != content:
        refusal("vae-run", "resume=run", "epochs=4", cwd=run.parent)
