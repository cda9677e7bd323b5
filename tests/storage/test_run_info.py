"""The format of run directories: those of other versions are refused in one line, which names the version."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import command
from vae_runner import __version__
from vae_runner.errors import FormatError, UserError
from vae_runner.files.sealed import seal
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.run_info import FORMAT
from vae_runner.storage.stored_run import StoredRun
from vae_runner.sweeps.directory import SweepDirectory
from vae_runner.sweeps.report import Report

Refusal = Callable[..., str]

VERSIONS = {"tensorflow": "2.21.0", "keras": "3.15.0", "numpy": "2.4.0", "python": "3.11.0"}


def rewrite(run: Path, version: str | None, **entries: Any) -> None:
    """Have a finished run's run.json be that of another version."""
    info = json.loads((run / "run.json").read_text())
    for key in ("checksum", "format"):
        del info[key]
    info["versions"] = {"vae_runner": version, **VERSIONS}
    if version is None:
        del info["versions"]
    (run / "run.json").write_text(json.dumps(seal({**info, **entries}), indent=2))


def make_older(run: Path) -> None:
    """Have a run be as version 0.1.0 left it: without a format, and with other parts of a configuration."""
    rewrite(run, "0.1.0")
    config = yaml.safe_load((run / "config.yaml").read_text())
    for part in ("posterior", "prior", "likelihood"):
        del config[part]
    (run / "config.yaml").write_text(yaml.safe_dump(config))


def make_newer(run: Path) -> None:
    """Have a run be of a version to come."""
    rewrite(run, "9.8.7", format=FORMAT + 1, metrics=["of another kind"])


OLDER = "was written by version 0.1.0 of vae-runner, in format 1 of run directories; this is version"
INSTALL = f"reads format {FORMAT}: install that version to use it, or start a new run"
NEWER = "was written by version 9.8.7 of vae-runner, in format 3 of run directories; this is version"
UPGRADE = f"reads format {FORMAT}: upgrade vae-runner to that version or a later one"


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_a_run_carries_the_format_and_the_version_that_wrote_it(finished_run: Path) -> None:
    info = json.loads((finished_run / "run.json").read_text())
    assert (info["format"], info["versions"]["vae_runner"]) == (FORMAT, __version__) == (2, "0.2.0")


@pytest.mark.parametrize(("make", "said"), [(make_older, (OLDER, INSTALL)), (make_newer, (NEWER, UPGRADE))])
def test_a_run_of_another_format_is_refused_by_every_command_and_left_as_it_is(
    run: Path, refusal: Refusal, make: Callable[[Path], None], said: tuple[str, str]
) -> None:
    make(run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for arguments in (["vae-run", "resume=run", "epochs=4"], ["vae-sample", "run"], ["vae-compare", "run"]):
        line = refusal(*arguments, cwd=run.parent)
        assert all(part in line for part in ("run was written by", *said)), line
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("version", [None, "0.1.0"])
def test_also_without_a_checksum_or_a_version_an_older_run_is_no_damaged_one(run: Path, version: str | None) -> None:
    rewrite(run, version)
    writer = f"version {version}" if version else "an earlier version"
    with pytest.raises(FormatError, match=f"was written by {writer} of vae-runner, in format 1"):
        StoredRun.open(run)
    info = {name: value for name, value in json.loads((run / "run.json").read_text()).items() if name != "checksum"}
    (run / "run.json").write_text(json.dumps(info))
    with pytest.raises(FormatError if version else UserError, match=writer if version else "it has no checksum"):
        StoredRun.open(run)


@pytest.mark.parametrize("version", [["0.1.0"], {"a": 1}, 7, "\x1b[2J" * 1000])
def test_a_version_that_is_none_is_not_repeated_as_it_is(run: Path, version: Any) -> None:
    rewrite(run, version)
    with pytest.raises(FormatError, match="in format 1") as refused:
        StoredRun.open(run)
    assert "\x1b" not in str(refused.value)
    assert len(str(refused.value)) < 600


def test_an_older_run_that_was_damaged_is_called_damaged(run: Path) -> None:
    rewrite(run, "0.1.0")
    file = run / "run.json"
    file.write_text(file.read_text().replace("0.1.0", "0.1.1"))
    with pytest.raises(UserError, match="the run directory is damaged"):
        StoredRun.open(run)


@pytest.fixture
def sweep(run: Path, finished_run: Path) -> Path:
    """A sweep with a run of version 0.1.0 and one of this version."""
    directory = SweepDirectory(run.parent / "sweep")
    directory.begin(["seed=0,1"], ["seed"])
    for name in ("seed_0-0123abcd", "seed_1-0123abce"):
        shutil.copytree(finished_run, directory.path / name)
    make_older(directory.path / "seed_0-0123abcd")
    return directory.path


def test_a_sweep_with_a_run_of_another_format_is_not_continued(sweep: Path) -> None:
    before = {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()}
    result = command("vae-run", "-m", "seed=0,1", f"sweep.dir={sweep}", cwd=sweep.parent)
    assert result.returncode == 2, result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    assert f"seed_0-0123abcd {OLDER}" in result.stderr
    assert INSTALL in result.stderr
    assert {path: path.read_bytes() for path in sweep.rglob("*") if path.is_file()} == before


def test_a_run_of_another_format_is_in_its_sweeps_table_and_hides_no_other(sweep: Path) -> None:
    report = Report(SweepDirectory(sweep))
    report.write()
    report.show()
    with (sweep / "sweep.csv").open(newline="") as file:
        older, ours = csv.DictReader(file)
    assert (older["status"], older["test/loss"]) == ("unsupported", "")
    assert OLDER in older["error"]
    assert ours["status"] == "finished"
    assert float(ours["test/loss"]) == RunDirectory(sweep / "seed_1-0123abce").info["metrics"]["test/loss"]
