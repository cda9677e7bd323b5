"""What runs are called by that differ in what was chosen for them: everywhere where runs stand side by side."""

import csv
import shutil
from pathlib import Path

import pytest
from tensorboard import context
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.plugins.base_plugin import TBContext
from tensorboard.plugins.hparams import api_pb2
from tensorboard.plugins.hparams.backend_context import Context
from tensorboard.plugins.hparams.list_session_groups import Handler

from tests.cli.test_sweep import SMALL, rows
from tests.conftest import command
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.storage.run_info import CHOICES

pytestmark = pytest.mark.slow  # tests/sweeps/test_report.py and tests/trackers show it of runs that are made up


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep of six: a choice of the user's own with the same target as one of ours, and values of many kinds."""
    folder = tmp_path_factory.mktemp("choices")
    (folder / "conf" / "optimizer").mkdir(parents=True)
    (folder / "conf" / "optimizer" / "mine.yaml").write_text("defaults: [adam]\nbeta_1: 0.8\n")
    varied = ("optimizer=adam,mine", "model.filters=null,4,[4,4]", "latent=3", "epochs=1", *SMALL[1:-1])
    result = command("vae-run", "--config-dir", "conf", "-m", *varied, "sweep.dir=sweep", cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "console.txt").write_text(result.stdout)
    return folder / "sweep"


def run_of(sweep: Path, optimizer: str) -> Path:
    return next(sweep.glob(f"optimizer_{optimizer}-filters_4-*"))


def test_folders_are_named_after_the_choices_and_values(sweep: Path) -> None:
    names = sorted(file.parent.name.rpartition("-")[0] for file in sweep.glob("*/run.json"))
    filters = ("4", "4_4", "null")
    assert names == [f"optimizer_{name}-filters_{number}" for name in ("adam", "mine") for number in filters]


def test_the_table_the_page_and_the_plots_name_the_choice(sweep: Path) -> None:
    assert {row["run"].split("-")[0]: row["optimizer"] for row in rows(sweep)} == {
        "optimizer_adam": "adam",
        "optimizer_mine": "mine",
    }
    page = (sweep / "sweep.html").read_text()
    for name in ("adam", "mine"):
        assert page.count(f"<td>{name}</td>") == 3
        assert page.count(f": optimizer={name}, ") == 3
        assert sum(name in line.split()[2:4] for line in (sweep.parent / "console.txt").read_text().splitlines()) == 3


def test_vae_compare_names_the_choice_and_of_earlier_runs_ours_of_the_same_target(sweep: Path, tmp_path: Path) -> None:
    for name in ("adam", "mine"):
        shutil.copytree(run_of(sweep, name), tmp_path / name)
    shutil.copytree(tmp_path / "mine", tmp_path / "earlier")
    earlier = RunDirectory(tmp_path / "earlier")
    earlier.write_info({name: value for name, value in earlier.info.items() if name != CHOICES})
    result = command("vae-compare", "adam", "mine", "earlier", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    with (tmp_path / "compare.csv").open(newline="") as file:
        told = list(csv.DictReader(file))
    assert [row["optimizer"] for row in told] == ["adam", "mine", "adam"]
    parts = {"dataset": "digits", "model": "conv", "posterior": "gaussian", "loss": "vae", "schedule": "constant"}
    for row in told:
        assert parts.items() <= row.items()
        info = RunDirectory(tmp_path / row["run"]).info
        expected = {**info["metrics"], "seconds": info["seconds"]}  # all of the run, not its last epoch
        assert {name: float(row[name]) for name in expected} == expected
        assert (row["latent"], row["seed"], row["epoch"]) == ("3", "0", "1")


def test_a_resumed_run_keeps_its_choices_and_looks_keys_up_in_its_own_configuration(
    sweep: Path, tmp_path: Path
) -> None:
    shutil.copytree(run_of(sweep, "mine"), tmp_path / "run")
    result = command("vae-run", "resume=run", "epochs=2", "early_stopping.patience=${latent}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    run = RunDirectory(tmp_path / "run")
    assert run.info[CHOICES]["optimizer"] == "mine"
    assert run.config.early_stopping.patience == 3


def test_tensorboard_lists_all_runs_whatever_kinds_of_values_they_have(sweep: Path) -> None:
    multiplexer = EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(sweep))
    multiplexer.Reload()
    backend = Context(TBContext(data_provider=MultiplexerDataProvider(multiplexer, str(sweep))))
    asked = context.RequestContext()
    given = backend.hparams_from_data_provider(asked, "", limit=None)
    experiment = backend.experiment_from_metadata(asked, "", True, backend.hparams_metadata(asked, ""), given)
    statuses = [api_pb2.STATUS_UNKNOWN, api_pb2.STATUS_SUCCESS, api_pb2.STATUS_FAILURE, api_pb2.STATUS_RUNNING]
    request = api_pb2.ListSessionGroupsRequest(start_index=0, slice_size=100, allowed_statuses=statuses)
    shown = {}
    for info in experiment.hparam_infos:  # as the page asks: everything that a key has is ticked
        column = request.col_params.add(hparam=info.name)
        if info.domain_discrete.values:
            column.filter_discrete.CopyFrom(info.domain_discrete)
            shown[info.name] = sorted(value.string_value for value in info.domain_discrete.values)
    groups = Handler(asked, backend, "", request).run().session_groups
    assert len(groups) == 6
    assert shown["model.filters"] == ["4", "[4, 4]", "null"]
