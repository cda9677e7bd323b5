"""A search and its study, with stand-ins for what its runs compute."""

import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

optuna = pytest.importorskip("optuna", reason="needs the extra 'sweep'")

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.storages import JournalStorage  # noqa: E402
from optuna.storages.journal import JournalFileBackend  # noqa: E402
from optuna.trial import create_trial  # noqa: E402

from vae_runner.errors import Interrupted, UserError  # noqa: E402
from vae_runner.schema import SearchConfig  # noqa: E402
from vae_runner.storage.run_info import PRUNED  # noqa: E402
from vae_runner.sweeps.directory import SweepDirectory  # noqa: E402
from vae_runner.sweeps.search import Search  # noqa: E402
from vae_runner.sweeps.study import reporter, search_space  # noqa: E402
from vae_runner.training.outer import EpochResult  # noqa: E402

Outcome = float | str | None
X = "x=interval(0.0, 1.0)"


def searched(
    folder: Path, outcome: Callable[[Mapping[str, Any]], Outcome], *arguments: str, **keys: Any
) -> list[dict[str, Any]]:
    """Search in `folder` for runs that end with `outcome` of their overrides, which are returned."""
    runs = []

    def launch(batch: Sequence[Sequence[str]], initial_job_idx: int) -> Iterator[SimpleNamespace]:
        read = [{o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(run)} for run in batch]
        runs.extend(read)
        for number, run in enumerate(read, initial_job_idx):
            assert run["hydra.sweeper.trial"] == number
            directory = {"hydra": {"runtime": {"output_dir": str(folder / f"run{number}")}}}
            yield SimpleNamespace(return_value=outcome(run), hydra_cfg=OmegaConf.create(directory))

    metric = keys.pop("metric", "test/loss")
    sweeper = OmegaConf.merge(OmegaConf.structured(SearchConfig), {"study_name": "s", "journal": f"{folder}/j", **keys})
    content = {"seed": 0, "epochs": 9, "sweep": {"metric": metric}, "hydra": {"sweep": {"dir": str(folder)}}}
    search = Search()
    search.config, search.hydra_context = OmegaConf.create(content), SimpleNamespace(config_loader=None)
    search.config.hydra.sweeper = sweeper
    search.launcher = SimpleNamespace(launch=lambda *given, **more: list(launch(*given, **more)))
    folder.mkdir(exist_ok=True)
    SweepDirectory(folder).begin(arguments, ["x"])
    search.sweep(list(arguments))
    return runs


def loaded(journal: Path) -> Any:
    """The study, as Optuna alone reads it."""
    return optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(journal))))


def states(journal: Path) -> list[str]:
    return [trial.state.name for trial in loaded(journal).trials]


def begun(folder: Path, sweep: str, attribute: str = "sweep_id") -> Any:
    """A trial of a process that is gone, or is on another machine."""
    trial = loaded(folder / "j").ask({"x": FloatDistribution(0, 1)})
    if sweep:
        trial.set_user_attr(attribute, sweep)
    return trial


@pytest.mark.parametrize(
    ("override", "distribution"),
    [
        ("latent=choice(2, 8, 32)", CategoricalDistribution([2, 8, 32])),
        ("latent=2,8", CategoricalDistribution([2, 8])),
        ("model.widths=[64],[64,32]", CategoricalDistribution(["[64]", "[64,32]"])),
        ("early_stopping.metric=null,test/loss", CategoricalDistribution(["null", "test/loss"])),
        ("model.skip=true,false", CategoricalDistribution([True, False])),
        ("rate=tag(log, interval(1e-4, 1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("rate=interval(0, 1.5)", FloatDistribution(0, 1.5)),
        ("width=tag(log, int(interval(64, 1024)))", IntDistribution(64, 1024, log=True)),
        ("depth=range(1, 5)", IntDistribution(1, 4)),
        ("depth=range(9, 0, -4)", IntDistribution(1, 9, step=4)),
        ("rate=range(0.1, 0.6, 0.2)", FloatDistribution(0.1, 0.5, step=0.2)),
        ("depth=shuffle(range(1, 8, 3))", IntDistribution(1, 7, step=3)),
    ],
)
def test_what_is_drawn_is_what_hydras_words_say(override: str, distribution: object) -> None:
    space = search_space(OverridesParser.create().parse_overrides([override]))
    assert space == {override.partition("=")[0]: distribution}


@pytest.mark.parametrize(
    "override", ["rate=tag(log, interval(0.0, 1.0))", "rate=tag(lgo, interval(0.1, 1.0))", "n=range(3, 3)"]
)
def test_what_nothing_can_be_drawn_from_is_refused(override: str) -> None:
    with pytest.raises(UserError, match=r"nothing can be drawn from it") as refusal:
        search_space(OverridesParser.create().parse_overrides([override]))
    assert str(refusal.value).startswith(override)


def test_every_value_comes_to_the_run_as_it_was_written(tmp_path: Path) -> None:
    runs = searched(tmp_path, lambda run: 1.0, "a=null,true,2,0.5,[1,2],'b, c'", "d=1", sampler="grid")
    assert [run["a"] for run in runs] == [None, True, 2, 0.5, [1, 2], "b, c"]
    assert {run["d"] for run in runs} == {1}


def test_what_is_given_on_the_command_line_is_searched_in_place_of_what_the_yaml_says(tmp_path: Path) -> None:
    params = {"x": "choice(1, 2)", "y": "choice(1, 2)", "z": 7}
    runs = searched(tmp_path, lambda run: 1.0, "x=5", "y=3,4", sampler="grid", params=params)
    assert [(run["x"], run["y"], run["z"]) for run in runs] == [(5, 3, 7), (5, 4, 7)]
    with pytest.raises(UserError, match="nothing is searched"):
        searched(tmp_path, lambda run: 1.0, "x=5", "y=3", params=params)


def test_a_search_goes_on_up_to_its_number_of_complete_and_pruned_trials_and_does_failed_ones_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes: list[Outcome] = [3.0, None, PRUNED, 2.0]
    first = searched(tmp_path, lambda run: outcomes.pop(0), X, n_trials=4)
    assert states(tmp_path / "j") == ["COMPLETE", "FAIL", "PRUNED", "COMPLETE"]
    best = loaded(tmp_path / "j").best_trial
    assert best.user_attrs == {"sweep_id": SweepDirectory(tmp_path).info.identity, "run": "run3"}
    assert f"The best of 3 runs: test/loss=2 with x={best.params['x']}: " in capsys.readouterr().out

    again = searched(tmp_path, lambda run: 1.0, X, n_trials=4)
    assert [run["x"] for run in again] == [first[1]["x"]]
    assert searched(tmp_path, lambda run: 1.0, X, n_trials=4) == []
    assert len(searched(tmp_path, lambda run: 1.0, X, n_trials=7, n_jobs=2)) == 3


def test_a_search_that_ends_before_it_has_begun_is_known_for_one_until_another_command_is_none(tmp_path: Path) -> None:
    searched(tmp_path, lambda run: 1.0, "x=tag(log, interval(0.1, 1))", n_trials=1, direction="maximize")
    sweep = SweepDirectory(tmp_path)
    sweep.begin([], [])
    assert (sweep.info.metric, sweep.info.highest, sweep.info.logarithmic) == ("test/loss", True, ["x"])
    sweep.expect(["a"])
    assert (sweep.info.metric, sweep.info.highest, sweep.info.logarithmic) == ("", False, [])
    sweep.begin([], [])
    assert sweep.info.expected == []


def test_trials_of_this_sweep_whose_process_is_gone_are_done_again_and_those_of_other_machines_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_runner.sweeps.study.SECONDS_TO_OWN", 0)
    searched(tmp_path, lambda run: None, X, n_trials=1)
    for sweep in (SweepDirectory(tmp_path).info.identity, "", "another's"):  # Nothing: it was killed at once.
        begun(tmp_path, sweep)
    lost = [trial.params["x"] for trial in loaded(tmp_path / "j").trials]

    def ctrl_c(run: Mapping[str, Any]) -> Outcome:
        raise Interrupted(signal.SIGINT)

    for _ in range(2):  # What is queued is not queued again.
        with pytest.raises(Interrupted):
            searched(tmp_path, ctrl_c, X, n_trials=2)
        assert states(tmp_path / "j").count("WAITING") == 1
        assert states(tmp_path / "j").count("RUNNING") == 1
    runs = searched(tmp_path, lambda run: 1.0, X, n_trials=4)
    assert {run["x"] for run in runs} > set(lost[:3])
    assert lost[3] not in {run["x"] for run in runs}


@pytest.mark.parametrize("journal", ["shared/j", "mine/j"])  # Other machines may be given either.
def test_a_trial_that_nobody_says_is_theirs_is_left_to_other_machines_for_a_moment(
    journal: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / journal
    searched(tmp_path / "others", lambda run: 1.0, X, n_trials=1, journal=str(file))
    trial = begun(file.parent, "")
    asked_for_meanwhile: list[Any] = []

    def on_another_machine(seconds: float) -> None:
        trial.set_user_attr("sweep_id", "another's")
        if not asked_for_meanwhile:
            asked_for_meanwhile.append(begun(file.parent, ""))

    monkeypatch.setattr("time.sleep", on_another_machine)
    searched(tmp_path / "mine", lambda run: 1.0, X, n_trials=2, journal=str(file))
    assert states(file) == ["COMPLETE", "RUNNING", "RUNNING", "COMPLETE"]
    assert f"1 trial in {file} may be of another machine: waiting 10 s" in capsys.readouterr().out
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("it waits where nothing is missing"))
    searched(tmp_path / "mine", lambda run: 1.0, X, n_trials=2, journal=str(file))
    assert states(file) == ["COMPLETE", "RUNNING", "RUNNING", "COMPLETE"]
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    tell = optuna.Study.tell

    def tell_after_another_machine(*given: Any, **keys: Any) -> Any:
        tell(*given, **keys)
        return tell(*given, **keys)

    monkeypatch.setattr(optuna.Study, "tell", tell_after_another_machine)
    searched(tmp_path / "mine", lambda run: 1.0, X, n_trials=3, journal=str(file))
    assert states(file) == ["COMPLETE", "RUNNING", "FAIL", "COMPLETE", "COMPLETE"]


def test_two_machines_may_find_the_same_lost_trial_at_the_same_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae_runner.sweeps.study.SECONDS_TO_OWN", 0)
    searched(tmp_path, lambda run: 1.0, X, n_trials=1)
    begun(tmp_path, "")
    write, told = JournalStorage.set_trial_state_values, []

    def after_the_other(storage: Any, *given: Any, **keys: Any) -> Any:
        if not told:
            told.append(given)
            write(loaded(tmp_path / "j")._storage, *given, **keys)
        return write(storage, *given, **keys)

    monkeypatch.setattr(JournalStorage, "set_trial_state_values", after_the_other)
    searched(tmp_path, lambda run: 1.0, X, n_trials=2)
    assert states(tmp_path / "j") == ["COMPLETE", "FAIL", "COMPLETE"]


def test_a_search_that_waits_for_other_machines_can_be_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    searched(tmp_path, lambda run: 1.0, X, n_trials=1)
    begun(tmp_path, "")
    waited: list[float] = []

    def ctrl_c(seconds: float) -> None:
        waited.append(seconds)
        SweepDirectory(tmp_path).request_stop(signal.SIGINT)

    monkeypatch.setattr("time.sleep", ctrl_c)
    with pytest.raises(Interrupted):
        searched(tmp_path, lambda run: 1.0, X, n_trials=2)
    assert len(waited) == 1
    assert waited[0] <= 1
    assert states(tmp_path / "j") == ["COMPLETE", "RUNNING"]


def test_a_trial_of_an_earlier_version_belongs_to_the_sweep_in_its_folder(tmp_path: Path) -> None:
    journal = tmp_path / "shared" / "j"
    searched(tmp_path / "mine", lambda run: 1.0, X, n_trials=1, journal=str(journal))
    for folder in ("../mine", "../theirs"):
        begun(journal.parent, folder, "sweep")
    searched(tmp_path / "mine", lambda run: 1.0, X, n_trials=2, journal=str(journal))
    assert states(journal) == ["COMPLETE", "FAIL", "RUNNING", "COMPLETE"]


def test_machines_share_a_journal_and_draw_no_trial_twice(tmp_path: Path) -> None:
    journal = str(tmp_path / "shared" / "j")
    one = searched(tmp_path / "one", lambda run: 1.0, X, n_trials=3, journal=journal)
    two = searched(tmp_path / "two", lambda run: 2.0, X, n_trials=5, journal=journal)
    assert (len(one), len(two)) == (3, 2)
    trials = loaded(Path(journal)).trials
    assert len({trial.params["x"] for trial in trials}) == 5
    assert [trial.user_attrs["run"] for trial in trials][2:4] == ["../one/run2", "../two/run3"]


def test_machines_whose_sweeps_have_the_same_path_leave_each_others_trials_alone(tmp_path: Path) -> None:
    """Each has a disk of its own at `scratch`; only the journal is shared."""
    journal, path = str(tmp_path / "shared" / "j"), tmp_path / "scratch"

    def running(run: Mapping[str, Any]) -> Outcome:
        path.rename(tmp_path / "of_the_first")  # The second machine has nothing there.
        others = searched(path, lambda run: 1.0, X, n_trials=1, journal=journal)
        assert [other["x"] for other in others] != [run["x"]]
        assert states(Path(journal)) == ["RUNNING", "COMPLETE"]
        path.rename(tmp_path / "of_the_second")
        (tmp_path / "of_the_first").rename(path)
        return 2.0

    searched(path, running, X, n_trials=1, journal=journal)
    assert states(Path(journal)) == ["COMPLETE", "COMPLETE"]


@pytest.mark.parametrize("sampler", ["tpe", "random", "cmaes"])
def test_one_seed_gives_one_search_however_it_is_cut_into_commands(sampler: str, tmp_path: Path) -> None:
    def runs(folder: str, number: int) -> list[float]:
        found = searched(tmp_path / folder, lambda run: run["x"], X, "y=range(1,9)", n_trials=number, sampler=sampler)
        return [run["x"] for run in found]

    assert runs("one", 14) == runs("two", 5) + runs("two", 14)


def test_the_grid_is_all_choices_in_order_and_then_the_search_is_over(tmp_path: Path) -> None:
    arguments = ("x=2,1", "y=range(0.5, 2.0, 0.5)")
    first = searched(tmp_path, lambda run: 1.0, *arguments, sampler="grid", n_trials=2)
    rest = searched(tmp_path, lambda run: 1.0, *arguments, sampler="grid", n_trials=50)
    expected = [(x, y) for x in (2, 1) for y in (0.5, 1.0, 1.5)]
    assert [(run["x"], run["y"]) for run in [*first, *rest]] == expected
    with pytest.raises(UserError, match=r"sampler=grid: x has an interval"):
        searched(tmp_path / "other", lambda run: 1.0, X, sampler="grid")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": "maximize"}, "has hydra.sweeper.direction=minimize"),
        ({"metric": "test/kl"}, "has sweep.metric=test/loss"),
        ({"argument": "x=0.1,0.2"}, "has other values of x"),
    ],
)
def test_a_study_of_another_search_is_not_continued(change: dict[str, str], message: str, tmp_path: Path) -> None:
    searched(tmp_path, lambda run: 1.0, X, n_trials=1)
    with pytest.raises(UserError, match=message):
        searched(tmp_path, lambda run: 1.0, change.pop("argument", X), **change)


def test_a_journal_whose_last_entry_was_cut_short_is_continued_and_a_damaged_one_refused(tmp_path: Path) -> None:
    searched(tmp_path, lambda run: 1.0, X, n_trials=2)
    journal = tmp_path / "j"
    with journal.open("ab") as file:
        file.write(b'{"op_code": 4, "wor')
    searched(tmp_path, lambda run: 1.0, X, n_trials=3)
    assert states(journal) == ["COMPLETE"] * 3
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"{nothing\n", *lines[1:]]))
    with pytest.raises(UserError, match="is damaged, or no journal"):
        searched(tmp_path, lambda run: 1.0, X)


def test_a_search_that_is_to_end_chooses_no_more_runs(tmp_path: Path) -> None:
    def stopped(run: Mapping[str, Any]) -> Outcome:
        SweepDirectory(tmp_path).request_stop(signal.SIGTERM)
        return None

    with pytest.raises(Interrupted):
        searched(tmp_path, stopped, X)
    assert states(tmp_path / "j") == ["FAIL"]


@pytest.mark.parametrize(
    ("pruner", "direction"), [("median", "minimize"), ("median", "maximize"), ("hyperband", "minimize")]
)
def test_a_run_that_is_worse_than_those_before_is_given_up(pruner: str, direction: str, tmp_path: Path) -> None:
    sign = 1 if direction == "minimize" else -1
    searched(tmp_path, lambda run: 1.0, X, n_trials=1, direction=direction)
    study, space = loaded(tmp_path / "j"), {"x": FloatDistribution(0, 1)}
    for n in range(1, 10):  # of which each of Hyperband's brackets gets some
        curve = {epoch: sign * (n + 1 / epoch) for epoch in range(1, 28)}
        study.add_trial(
            create_trial(value=curve[27], params={"x": 0.5}, distributions=space, intermediate_values=curve)
        )

    def epochs(error: float) -> int:
        """After how many epochs a run with this error is given up; 0 if it is not."""
        keys = OmegaConf.create({"study_name": "s", "journal": f"{tmp_path}/j", "pruner": pruner})
        keys.trial = study.ask(space).number
        report = reporter(keys, "test/loss", 27)
        for epoch in range(1, 28):
            if reason := report(EpochResult(epoch, epoch, {"test/loss": sign * error})):
                assert reason.startswith(f"test/loss={sign * error:.6g} after epoch {epoch} ")
                return epoch
        return 0

    assert not any(epochs(-1.0) for _ in range(6))
    assert any(0 < epochs(100.0) <= 9 for _ in range(8))
    assert loaded(tmp_path / "j").trials[-1].intermediate_values[1] == sign * 100.0


def test_without_a_pruner_a_run_is_reported_and_never_given_up(tmp_path: Path) -> None:
    searched(tmp_path, lambda run: 1.0, X, n_trials=1)
    keys = OmegaConf.create({"study_name": "s", "journal": f"{tmp_path}/j", "pruner": "none"})
    keys.trial = loaded(tmp_path / "j").ask().number
    report = reporter(keys, "test/loss", 3)
    for epoch in (1, 2):
        assert report(EpochResult(epoch, epoch, {"test/loss": 1e9 * epoch})) == ""
    assert report(EpochResult(3, 3, {"train/loss": 0.0})) == ""
    assert loaded(tmp_path / "j").trials[-1].intermediate_values == {1: 1e9, 2: 2e9}
