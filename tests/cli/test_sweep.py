"""What `vae-run -m` promises: nothing that befalls a run, or the sweep's own process, loses the rest."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.test_resume import start, table, wait_for
from tests.conftest import command
from vae_runner.runtime.console import console
from vae_runner.storage.run_directory import RunDirectory

SMALL = ("epochs=2", "dataset.limit=64", "figures=none", "model.filters=4")


def states(sweep: Path) -> Counter[str]:
    """How many runs are in which state."""
    return Counter(json.loads(file.read_text())["status"] for file in sweep.glob("*/run.json"))


def rows(sweep: Path) -> list[dict[str, str]]:
    """Those of sweep.csv."""
    with (sweep / "sweep.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes that a process has started."""
    return [int(p) for p in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep of four, with pictures."""
    folder = tmp_path_factory.mktemp("sweep")
    arguments = ("-m", "latent=2,3", "seed=0,1", "epochs=1", "dataset.limit=64", "sweep.dir=sweep")
    picture = ("figures.periodic.samples.rows=2", "figures.periodic.samples.columns=2")
    few = (*picture, "figures.periodic.reconstructions=null", "figures.final={}")
    result = command("vae-run", *arguments, *few, cwd=folder)
    assert result.returncode == 0, result.stderr
    (folder / "console.txt").write_text(result.stdout)
    return folder / "sweep"


@pytest.fixture
def copied(sweep: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A copy of the finished sweep in tmp_path, which the function goes on with, with more overrides."""
    shutil.copytree(sweep, tmp_path / "sweep")
    arguments = ("-m", "epochs=1", "dataset.limit=64", "figures=none", "sweep.dir=sweep")
    return lambda *more: command("vae-run", *arguments, *more, cwd=tmp_path)


def test_a_sweep_leaves_a_folder_a_run_named_by_what_varies_and_by_what_it_computes(sweep: Path) -> None:
    names = sorted(file.parent.name for file in sweep.glob("*/run.json"))
    assert [name.rpartition("-")[0] for name in names] == [
        *("latent_2-seed_0", "latent_2-seed_1", "latent_3-seed_0", "latent_3-seed_1")
    ]
    assert states(sweep) == {"finished": 4}


def test_its_table_has_a_row_a_run_with_what_varies_status_and_metrics(sweep: Path) -> None:
    for row in rows(sweep):
        with (sweep / row["run"] / "metrics.csv").open(newline="") as file:
            last = list(csv.DictReader(file))[-1]
        assert row["status"] == "finished"
        assert row["test/loss"] == last["test/loss"]
        assert row["run"].startswith(f"latent_{row['latent']}-seed_{row['seed']}-")
    assert list(rows(sweep)[0])[:5] == ["run", "status", "epoch", "latent", "seed"]


def test_its_page_stands_alone_with_links_pictures_and_plots(sweep: Path) -> None:
    page = (sweep / "sweep.html").read_text()
    for row in rows(sweep):
        assert f'<a href="{row["run"]}/">' in page
    assert page.count('<img class="samples" src="data:image/jpeg;base64,') == 4
    assert page.count("<svg") == 1  # over latent, with a dot for each seed
    assert page.count('<g class="run">') == 4
    assert not re.search(r'(src|href)="(https?:)?//', page)


def test_the_table_is_shown_at_the_end_the_best_run_first(sweep: Path) -> None:
    lines = [line.rstrip() for line in (sweep.parent / "console.txt").read_text().splitlines()]
    over_seeds = lines[lines.index("over the seeds") + 2 : -1]
    assert sorted(line.split()[0] for line in over_seeds) == sorted({row["latent"] for row in rows(sweep)})
    assert all(re.fullmatch(r"\d +2 +[\d.]+ ± [\d.]+", line) for line in over_seeds), over_seeds
    shown = [line.split()[0] for line in lines if re.match(r"latent_\d-seed_\d-\w{8} +finished", line)]
    best_first = sorted(rows(sweep), key=lambda row: float(row["test/loss"]))
    assert shown == [row["run"] for row in best_first]
    assert lines[-1] == "4 runs: sweep/sweep.html"


def test_a_dry_run_lists_the_runs_with_fingerprints_and_statuses_and_begins_none(
    sweep: Path, in_process: Callable[..., None], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 200)
    before = sorted(sweep.parent.rglob("*"))
    grid = ("latent=2,3,5", "seed=0,1", "epochs=1", "dataset.limit=64", "sweep.dir=sweep")
    in_process("vae-run", "-m", "--dry-run", *grid, cwd=sweep.parent)
    header, *lines, last = capsys.readouterr().out.splitlines()
    assert header.split() == ["fingerprint", "status", "overrides"]
    known = {row["run"][-8:] for row in rows(sweep)}
    for line in lines:
        is_done = " latent=5 " not in f" {line} "
        assert (line[:8] in known) is is_done, line
        assert line[8:].lstrip().startswith("finished " if is_done else "not begun "), line
    assert last == "6 runs in sweep: 4 finished, 2 not begun"
    assert sorted(sweep.parent.rglob("*")) == before


def test_a_dry_run_of_a_new_sweep_leaves_nothing_and_is_no_search_and_no_single_run(
    tmp_path: Path, in_process: Callable[..., None], capsys: pytest.CaptureFixture[str], refusal: Callable[..., str]
) -> None:
    in_process("vae-run", "-m", "seed=0,1", "--dry-run", cwd=tmp_path)
    assert capsys.readouterr().out.endswith("2 runs: 2 not begun\n")
    assert "latent=0: must be at least 1" in refusal("vae-run", "-m", "latent=2,0", "--dry-run", cwd=tmp_path)
    assert "hydra/sweeper=optuna" in refusal("vae-run", "-m", "hydra/sweeper=optuna", "--dry-run", cwd=tmp_path)
    assert "add -m" in refusal("vae-run", "--dry-run", cwd=tmp_path)
    assert not list(tmp_path.iterdir())


def test_vae_compare_makes_table_and_page_anew_without_tensorflow(sweep: Path) -> None:
    before = (sweep / "sweep.csv").read_text()
    for name in ("sweep.csv", "sweep.html"):
        (sweep / name).unlink()
    result = command("vae-compare", "sweep", cwd=sweep.parent)
    assert result.returncode == 0, result.stderr
    assert (sweep / "sweep.csv").read_text() == before
    assert "4 runs: sweep/sweep.html" in result.stdout


def test_values_added_later_join_the_same_directory_and_nothing_is_done_twice(
    copied: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    before = {file.parent.name: file.stat().st_mtime for file in tmp_path.glob("sweep/*/run.json")}
    result = copied("latent=3,5,2", "seed=0,1")
    assert result.returncode == 0, result.stderr
    after = {file.parent.name: file.stat().st_mtime for file in tmp_path.glob("sweep/*/run.json")}
    assert {name: after[name] for name in before} == before
    assert len(after) == 6
    assert result.stdout.count("is finished already") == 4


@pytest.mark.slow
def test_a_failing_run_and_one_that_takes_its_process_with_it_do_not_stop_the_others(tmp_path: Path) -> None:
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "mine.yaml").write_text("_target_: my_loss.Mine\nbehaviour: good\n")
    (tmp_path / "my_loss.py").write_text(
        "import os, signal\n"
        "from vae_runner.losses.elbo import Elbo\n"
        "class Mine(Elbo):\n"
        "    def __init__(self, behaviour):\n"
        "        super().__init__()\n"
        "        if behaviour == 'fails':\n"
        "            raise RuntimeError('a fault of mine')\n"
        "        if behaviour == 'dies' and not os.path.exists('mended'):\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    arguments = ("--config-dir", "conf", "-m", "loss=mine", "loss.behaviour=first,dies,fails,last", *SMALL)
    result = command("vae-run", *arguments, "sweep.dir=sweep", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 2, result.stderr
    assert "2 of 4 runs failed; the same command with sweep.dir=sweep repeats them" in result.stderr
    found = {row["loss.behaviour"]: (row["status"], row["error"]) for row in rows(tmp_path / "sweep")}
    assert found["first"] == found["last"] == ("finished", "")
    assert found["dies"] == ("failed", "the process died of signal SIGKILL")
    assert found["fails"] == ("failed", "RuntimeError: a fault of mine")
    assert "Traceback" in result.stdout + result.stderr

    (tmp_path / "mended").touch()
    result = command("vae-run", *arguments, "sweep.dir=sweep", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert "1 of 4 runs failed" in result.stderr
    assert states(tmp_path / "sweep") == {"finished": 3, "failed": 1}

    others = [word.replace("first,dies,fails,last", "first,last") for word in arguments]
    result = command("vae-run", *others, "sweep.dir=sweep", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, "another command is not judged by a run that it has not asked for"
    assert "failed" in result.stdout


def interrupt_supervisor(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130


def kill_supervisor(process: subprocess.Popen[str]) -> None:
    (child,) = children(process)
    process.kill()
    process.wait()
    wait_for(lambda: not Path(f"/proc/{child}").exists(), 30)  # it does not go on alone


def terminate_supervisor(process: subprocess.Popen[str]) -> None:
    process.terminate()
    assert process.wait(30) == 143


@pytest.mark.slow
def test_a_sweep_of_six_whose_plug_is_pulled_three_times_ends_with_six_right_runs(tmp_path: Path) -> None:
    arguments = ("-m", "latent=2,3", "seed=0,1,2", "epochs=3", *SMALL[1:], "hardware.deterministic=true")
    result = command("vae-run", *arguments, "sweep.dir=reference", cwd=tmp_path)
    assert result.returncode == 0, result.stderr

    more: tuple[str, ...] = ()
    for count, pull in enumerate((interrupt_supervisor, kill_supervisor, terminate_supervisor), 1):
        process = start(*arguments, *more, cwd=tmp_path)
        wait_for(lambda count=count: len(list(tmp_path.glob("outputs/*/*/*/metrics.csv"))) > count)
        pull(process)
        assert process.stderr is not None
        process.stderr.close()
        more = ("sweep=resume",)
    result = command("vae-run", *arguments, "sweep=resume", cwd=tmp_path)
    assert result.returncode == 0, result.stderr

    (directory,) = tmp_path.glob("outputs/*/*")
    names = {file.parent.name for file in directory.glob("*/run.json")}
    assert names == {file.parent.name for file in (tmp_path / "reference").glob("*/run.json")}
    assert states(directory) == {"finished": 6}
    for name in names:
        assert table(directory / name) == table(tmp_path / "reference" / name)


@pytest.mark.slow
def test_a_run_that_has_lost_its_run_json_goes_on_and_keeps_no_other_from_it(
    copied: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    lost = next(tmp_path.glob("sweep/latent_2-seed_0-*/run.json"))
    before = json.loads(lost.read_text())
    lost.unlink()
    result = copied("latent=2,3", "seed=0,1,2")
    assert result.returncode == 0, result.stderr
    assert states(tmp_path / "sweep") == {"finished": 6}
    after = json.loads(lost.read_text())
    assert {name: after[name] for name in ("epoch", "step", "metrics")} == {
        name: before[name] for name in ("epoch", "step", "metrics")
    }


@pytest.mark.slow
def test_a_finished_run_without_the_metric_of_a_search_is_its_own_failure_alone(
    copied: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    run = RunDirectory(next(tmp_path.glob("sweep/latent_2-seed_0-*")))
    run.write_info({**run.info, "metrics": {"train/loss": 1.0}})
    result = copied("latent=2,3", "seed=0,1")
    assert "is finished, and has no test/loss: delete its folder to have it done again" in result.stdout
    assert result.stdout.count("is finished already") == 4


@pytest.mark.slow
def test_a_finished_run_whose_configuration_is_damaged_is_told_of(
    copied: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    next(tmp_path.glob("sweep/latent_3-seed_1-*/config.yaml")).write_text("seed: 2\n")
    result = copied("latent=2,3", "seed=0,1")
    assert result.returncode == 2, result.stderr
    assert "config.yaml has changed since the run wrote it" in result.stderr
    assert "1 of 4 runs did not finish; the same command with sweep.dir=sweep continues it then" in result.stderr


def test_an_interrupted_sweep_says_how_many_of_its_runs_have_not_begun(tmp_path: Path) -> None:
    process = start("-m", "seed=0,1,2", *SMALL, "epochs=300", "sweep.dir=sweep", cwd=tmp_path)
    wait_for(lambda: list(tmp_path.glob("sweep/*/metrics.csv")))
    process.send_signal(signal.SIGHUP)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGHUP, stderr
    assert stderr == "vae-run: interrupted (2 not begun): the same command with sweep.dir=sweep continues it\n"
    assert states(tmp_path / "sweep") == {"interrupted": 1}


@pytest.mark.slow
def test_a_killed_process_of_the_sweep_is_replaced(tmp_path: Path) -> None:
    process = start("-m", "seed=0,1,2", *SMALL, "epochs=20", "sweep.dir=sweep", cwd=tmp_path)
    sweep = tmp_path / "sweep"
    wait_for(lambda: list(sweep.glob("*/metrics.csv")))
    (child,) = children(process)
    os.kill(child, signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2, stderr
    assert "the process died of signal SIGKILL (1 of 3 runs failed" in stderr
    assert states(sweep) == {"finished": 2, "failed": 1}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "seed=0,1", "sweep=resume"], "sweep=resume: there is no sweep of seed in outputs/"),
        (["-m", "seed=0,1", "sweep=resme"], "sweep=resme: must be one of new, resume. Did you mean 'resume'?"),
        (["-m", "seed=0,1", "sweep.dir=a,b"], "sweep.dir=a,b: a sweep has one directory"),
        (["-m", "seed=0,1", "sweep=resume", "sweep.dir=v77"], "sweep=resume: v77 is not a sweep's directory"),
        (["-m", "seed=0,1", "sweep.dir=exp(1)"], "sweep.dir=exp(1) cannot be read: a name with such letters needs"),
        (["-m", "seed=0,1", "hardware=multi_worker"], "hardware=multi_worker is for one run"),
        (["-m", "seed=0,1", "sweep.metric=tst/loss"], "sweep.metric=tst/loss: there is no such metric. Did you mean"),
        (["-m", "seed=0,1", "hydra.sweep.subdir=a"], "hydra.sweep.subdir=a: runs are found again by their folders"),
        (["-m", "sweep=resume"], "sweep=resume: of which sweep?"),
    ],
)
def test_a_sweep_that_makes_no_sense_is_refused_and_leaves_nothing(
    arguments: list[str], message: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert message in refusal("vae-run", *arguments, cwd=tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "latnt=1,2"], "there is no key 'latnt'"),
        (["-m", "latent=2,0", "seed=0,1"], "latent=0: must be at least 1"),
        (["-m", "latent=2,0", "hydra.sweeper.max_batch_size=1"], "latent=0: must be at least 1"),
        (["-m", "seed=0,1", "hydra/launcher=nothing"], "there is no such hydra/launcher"),
    ],
)
def test_so_is_one_of_which_the_process_of_its_runs_finds_that_it_makes_none(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    result = command("vae-run", *arguments, cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_sweeps_directory_cannot_be_resumed_as_a_run(sweep: Path, refusal: Callable[..., str]) -> None:
    said = refusal("vae-run", "resume=sweep", cwd=sweep.parent)
    assert "sweep is a sweep's directory: repeat its command with sweep.dir=sweep" in said


def test_a_runs_directory_is_not_taken_for_a_sweeps(sweep: Path, refusal: Callable[..., str]) -> None:
    run = rows(sweep)[0]["run"]
    said = refusal("vae-run", "-m", "seed=0,1", f"sweep.dir=sweep/{run}", cwd=sweep.parent)
    assert f"sweep/{run} is the directory of one run" in said


@pytest.mark.parametrize("others", [True, False], ids=["other plugins are there", "no plugin is"])
def test_a_preset_without_its_extra_says_what_to_install(
    others: bool, refusal: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find_spec(name: str) -> None:
        if not others:
            raise ModuleNotFoundError("No module named 'hydra_plugins'")

    monkeypatch.setattr("importlib.util.find_spec", find_spec)
    said = refusal("vae-run", "-m", "seed=0,1", "hydra/launcher=joblib", cwd=tmp_path)
    assert "hydra/launcher=joblib needs an extra: pip install 'vae-runner[sweep]'" in said


@pytest.mark.slow
def test_a_sweep_is_told_of_while_it_runs(tmp_path: Path) -> None:
    process = start("-m", "seed=0,1,2", *SMALL, "sweep.dir=sweep", cwd=tmp_path)
    page = tmp_path / "sweep" / "sweep.html"
    wait_for(page.exists)
    assert process.poll() is None
    process.communicate(timeout=120)
    assert time.time() - page.stat().st_mtime < 60


UNFIT = ("-m", "posterior=gaussian,point", "loss=vae,iwae", "sweep.unfit=skip", "sweep.dir=sweep", *SMALL)


def test_what_does_not_fit_is_left_out_of_a_sweep_that_says_how_many_that_were_and_why(tmp_path: Path) -> None:
    result = command("vae-run", *UNFIT, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(
        "Left out 3 of 4 combinations, which do not fit: loss=iwae needs a likelihood with a density, and likelihood="
        "mse is not one: choose likelihood from gaussian"
    )
    first_line = result.stdout.splitlines()[0]
    assert "; loss=vae needs a posterior with a density, and posterior=point is not one" in first_line
    assert [(row["run"].rpartition("-")[0], row["status"]) for row in rows(tmp_path / "sweep")] == [
        ("posterior_gaussian-loss_vae", "finished")
    ]


@pytest.mark.slow
def test_a_sweep_that_is_continued_with_a_launcher_leaves_the_same_out(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra 'sweep'")
    assert command("vae-run", *UNFIT, cwd=tmp_path).returncode == 0
    result = command("vae-run", *UNFIT, "seed=0,1", "sweep=resume", "hydra/launcher=joblib", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Left out 6 of 8 combinations" in result.stdout
    assert result.stdout.count("is finished already") == 1
    assert states(tmp_path / "sweep") == {"finished": 2}
    assert len(json.loads((tmp_path / "sweep" / "sweep.json").read_text())["expected"]) == 2
    compared = command("vae-compare", "sweep", cwd=tmp_path)
    assert compared.returncode == 0, compared.stderr
    assert "2 runs: " in compared.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("loss=iwae,renyi", "sweep.unfit=skip"),
            "vae-run: sweep.unfit=skip: none of 2 combinations fits: loss=iwae needs a likelihood with a density",
        ),
        (("loss=vae,iwae",), "vae-run: loss=iwae needs a likelihood with a density"),
        (("latent=2,0", "loss=vae,iwae", "sweep.unfit=skip"), "vae-run: latent=0: must be at least 1"),
        (("loss=vae,iwae", "sweep.unfit=leave"), "vae-run: sweep.unfit=leave: must be one of refuse, skip."),
    ],
    ids=str,
)
def test_a_sweep_of_which_nothing_fits_or_with_a_value_that_no_key_allows_is_refused(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    result = command("vae-run", "-m", *arguments, *SMALL, "sweep.dir=sweep", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stderr.startswith(said)
    assert not list(tmp_path.iterdir())
