"""What folders hold that is not ours, what may not be read, and what file systems and machines lack."""

import importlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.conftest import command, mostly_slow
from vae_runner.datasets import fashion
from vae_runner.errors import UnreadableError, UserError
from vae_runner.files.folders import make_next_folder
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.sweeps.directory import SweepDirectory

Refusal = Callable[..., str]

SMALL = ("dataset=digits", "dataset.limit=50", "epochs=1", "figures=none", "batch_size=16")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


# --- what is the user's -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["config.yaml", "metrics.csv", "run.json/x", "models/encoder.keras", "notes.txt", ".hydra/config.yaml"]
)
def test_a_run_is_refused_a_folder_with_something_of_the_users(name: str, tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "x" / name).parent.mkdir(parents=True)
    (tmp_path / "x" / name).write_text("mine")
    before = contents(tmp_path)
    said = refusal("vae-run", *SMALL, "hydra.run.dir=x", cwd=tmp_path)
    assert f"x holds {Path(name).parts[0]}, which is not a run's: give a run a folder of its own" in said
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("file", "folder"), [("run.json", "x/in"), ("run.json", "x/in/deeper"), ("sweep.json", "x/in")]
)
def test_a_new_run_is_refused_a_folder_in_another_runs_or_a_sweeps(
    file: str, folder: str, tmp_path: Path, refusal: Refusal
) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / file).write_text("{}")
    said = refusal("vae-run", *SMALL, f"hydra.run.dir={folder}", cwd=tmp_path)
    assert f"is in the directory of a {file.removesuffix('.json')}, {tmp_path}/x" in said
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [file]


@pytest.mark.parametrize("name", ["sweep.csv", "sweep.html", "study.journal", "multirun.yaml", "notes.txt"])
def test_a_sweep_is_refused_a_folder_with_something_of_the_users(name: str, tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / name).write_text("mine")
    before = contents(tmp_path)
    for key in ("sweep.dir", "hydra.sweep.dir"):
        said = refusal("vae-run", "-m", *SMALL, "seed=0,1", f"{key}=x", cwd=tmp_path)
        assert f"x holds {name}, which is not a sweep's" in said
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "left",
    [
        [],
        [".lock", ".hydra/config.yaml", ".part-123-config.yaml", "vae-run.log"],
        ["config.yaml", "checkpoints/step_0000000460.npz", "metrics.csv", "train/x", "models/x", "figures/x"],
        [".DS_Store"],
    ],
)
def test_a_run_takes_what_a_run_has_left_that_has_no_run_json(left: list[str], tmp_path: Path) -> None:
    for name in left:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with RunDirectory.create(tmp_path, OmegaConf.create()):
        pass
    (tmp_path / "run.json").unlink()
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="holds mine, which is not a run's"):
        RunDirectory.create(tmp_path, OmegaConf.create())


def test_a_sweep_takes_what_a_sweep_has_left_that_has_no_sweep_json(tmp_path: Path) -> None:
    sweep = SweepDirectory(tmp_path)
    RunDirectory.create(tmp_path / "seed_0-0123abcd", OmegaConf.create()).release()
    (tmp_path / "sweep.csv").touch()
    sweep.check_own()
    (tmp_path / "mine").touch()
    with pytest.raises(UserError, match="holds mine, which is not a sweep's"):
        sweep.check_own()


def test_a_table_of_the_users_next_to_the_picture_is_kept(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "scores.csv").write_text("name,score\n")
    said = refusal("vae-compare", "a", "--out", "scores.png", cwd=tmp_path)
    assert "scores.csv is in the way of the metrics, and no table of vae-compare's: give another --out" in said
    assert (tmp_path / "scores.csv").read_text() == "name,score\n"


def test_pictures_may_have_capital_suffixes_and_the_table_is_written_again(
    finished_run: Path, tmp_path: Path, in_process: Callable[..., None]
) -> None:
    in_process("vae-sample", finished_run, "-n", 2, "--out", "S.PNG", cwd=tmp_path)
    for _ in range(2):
        in_process("vae-compare", finished_run, "--out", "C.PNG", cwd=tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"S.PNG", "C.PNG", "C.csv"}


# --- two at the same moment ---------------------------------------------------------------------------------------


def taken_names(folder: Path, seconds: int = 60) -> None:
    """Have the folders of this minute be there already, as if a run had begun in every second of it."""
    for second in range(seconds):
        then = time.localtime(time.time() + second)
        (folder / "outputs" / time.strftime("%Y-%m-%d", then) / time.strftime("%H-%M-%S", then)).mkdir(parents=True)


def test_the_next_free_name_is_taken(tmp_path: Path) -> None:
    made = [make_next_folder(tmp_path / "a" / "12-00-00").name for _ in range(3)]
    assert made == ["12-00-00", "12-00-00-2", "12-00-00-3"]


def test_what_is_locked_is_in_use_and_not_damaged(tmp_path: Path, refusal: Refusal) -> None:
    live = RunDirectory(tmp_path)
    live.acquire()  # a run that has come no further
    with live:
        said = refusal("vae-run", *SMALL, f"hydra.run.dir={tmp_path}", cwd=tmp_path.parent)
    assert "is in use: another process runs in it; wait for its end, or stop it" in said


# --- what may not be read -----------------------------------------------------------------------------------------


@pytest.fixture
def ordinary() -> Iterator[Path]:
    """A folder in which this process is, for a while, an ordinary user, who may not read all that there is."""
    for name in ("compare", "sample"):  # what the other user may not read is imported before
        importlib.import_module(f"vae_runner.cli.{name}")
    folder = Path(tempfile.mkdtemp(prefix="vae-runner-test-"))
    folder.chmod(0o777)
    was_root = os.geteuid() == 0
    if was_root:
        os.seteuid(65534)
    try:
        yield folder
    finally:
        if was_root:
            os.seteuid(0)
        for path in (folder, *folder.glob("*")):
            path.chmod(0o755)
        shutil.rmtree(folder)


@pytest.mark.parametrize("closed", ["run", "run/run.json", "run/config.yaml", "run/checkpoints"])
@pytest.mark.parametrize("name", ["vae-sample", "vae-compare", "vae-run"])
def test_a_run_that_may_not_be_read_is_not_called_damaged(
    name: str, closed: str, ordinary: Path, refusal: Refusal
) -> None:
    config = OmegaConf.create({"latent": 2})
    with RunDirectory.create(ordinary / "run", config) as run:
        run.checkpoints.save(1, b"")
        run.write_info({"status": "finished", "epoch": 1, "metrics": {"test/loss": 1.0}})
    (ordinary / closed).chmod(0)
    said = refusal(name, f"resume={ordinary / 'run'}" if name == "vae-run" else ordinary / "run", cwd=ordinary)
    assert "cannot be read (Permission denied)" in said
    assert closed in said
    assert "delete" not in said
    (ordinary / closed).chmod(0o700)


def test_a_sweep_that_may_not_be_read_is_not_called_damaged(ordinary: Path, refusal: Refusal) -> None:
    sweep = SweepDirectory(ordinary / "sweep")
    sweep.begin(["seed=0,1"], ["seed"])
    for closed in (sweep.path / "sweep.json", sweep.path):
        closed.chmod(0)
        for arguments in (["vae-compare", sweep.path], ["vae-run", "-m", "seed=0,1", f"sweep.dir={sweep.path}"]):
            said = refusal(*arguments, cwd=ordinary)
            assert "cannot be read (Permission denied)" in said
            assert "delete" not in said
        closed.chmod(0o700)


def test_a_run_that_may_not_be_read_is_in_its_sweeps_table(ordinary: Path) -> None:
    from vae_runner.sweeps.report import Report

    sweep = SweepDirectory(ordinary / "sweep")
    sweep.begin(["seed=0,1"], ["seed"])
    for name in ("seed_0-0123abcd", "seed_1-0123abce"):
        RunDirectory.create(sweep.path / name, OmegaConf.create({"latent": 2})).release()
    (sweep.path / "seed_0-0123abcd").chmod(0)
    report = Report(sweep)
    report.write()
    (sweep.path / "seed_0-0123abcd").chmod(0o700)
    assert [run.status for run in report.runs] == ["unreadable", "dead"]
    assert "run.json cannot be read (Permission denied)" in report.runs[0].error


def test_a_checkpoint_that_may_not_be_read_is_not_set_aside(ordinary: Path) -> None:
    run = RunDirectory(ordinary)
    run.checkpoints.save(1, b"")
    checkpoint = ordinary / "checkpoints" / "step_0000000001.npz"
    checkpoint.chmod(0)
    with pytest.raises(UnreadableError, match=r"step_0000000001\.npz cannot be read \(Permission denied\)"):
        run.checkpoints.newest()
    assert checkpoint.exists()


@pytest.mark.parametrize("closed", ["data", "data/fashion"])
def test_data_that_may_not_be_read_is_named(closed: str, ordinary: Path) -> None:
    (ordinary / "data" / "fashion").mkdir(parents=True)
    (ordinary / closed).chmod(0)
    with pytest.raises(UnreadableError, match=r"data/fashion.* cannot be read \(Permission denied\)"):
        fashion.load(root=None, data_dir=str(ordinary / "data"), url="https://localhost")
    (ordinary / closed).chmod(0o700)


def test_what_has_gone_from_a_run_is_missing(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, OmegaConf.create())
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(UserError, match=r"config\.yaml is missing: bring the run directory back from a copy"):
        directory.config  # noqa: B018 (reads it)


# --- what file systems and machines lack --------------------------------------------------------------------------

LACKING = """\
import errno, fcntl, os, pwd, stat, tempfile
def no_locks(file, how):
    raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = no_locks
sync = os.fsync
def fsync(file):
    if stat.S_ISDIR(os.fstat(file).st_mode):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    sync(file)
os.fsync = fsync
def no_user(user):
    raise KeyError(user)
pwd.getpwuid = pwd.getpwnam = no_user
def no_folder():
    raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")
tempfile._get_default_tempdir = no_folder
os.environ.pop("HOME", None)
os.environ.pop("VAE_RUNNER_DATA", None)
"""


def test_a_run_does_without_locks_syncing_a_home_and_temporary_folders(tmp_path: Path) -> None:
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "sitecustomize.py").write_text(LACKING)
    taken_names(tmp_path)
    before = set(tmp_path.glob("outputs/*/*"))
    result = command("vae-run", *SMALL, cwd=tmp_path, PYTHONPATH=str(tmp_path / "lacking"))
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("is on a file system without locks (No locks available)") == 1
    (run,) = set(tmp_path.glob("outputs/*/*")) - before
    assert run.name.endswith("-2")
    assert '"finished"' in (run / "run.json").read_text()


# --- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["data_dir", "dataset.root", "hydra.run.dir"])
def test_a_name_that_is_not_utf_8_is_refused(key: str, tmp_path: Path, refusal: Refusal) -> None:
    name = os.fsdecode(b"a\xff")
    said = refusal("vae-run", "dataset=folder", "dataset.image_size=16", f"{key}={name}", cwd=tmp_path)
    assert r"a\udcff" in said
    assert "this name is not UTF-8" in said
    here = tmp_path / name
    here.mkdir()
    for arguments in ([], ["-m", "seed=0,1"]):
        assert r"a\udcff: this name is not UTF-8" in refusal("vae-run", *SMALL, *arguments, cwd=here)
    assert list(tmp_path.rglob("*")) == [here]


def test_a_name_from_the_environment_that_is_not_utf_8_is_refused(
    tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAE_RUNNER_DATA", os.fsdecode(b"a\xff"))
    assert r"data_dir=a\udcff: this name is not UTF-8" in refusal("vae-run", "dataset=fashion", cwd=tmp_path)


def test_a_home_that_is_not_there_is_refused_by_the_key_that_needs_it(
    tmp_path: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(user: object) -> None:
        raise KeyError(user)

    for name in ("getpwuid", "getpwnam"):
        monkeypatch.setattr(f"pwd.{name}", nobody)
    for name in ("HOME", "VAE_RUNNER_DATA"):
        monkeypatch.delenv(name, raising=False)
    line = "data_dir=~/.cache/vae-runner: there is no home that ~ could stand for: give the whole path"
    assert line in refusal("vae-run", "dataset=fashion", cwd=tmp_path)
    for key in ("data_dir", "dataset.root", "hydra.run.dir"):
        said = refusal("vae-run", "dataset=fashion", f"{key}=~nobody/x", cwd=tmp_path)
        assert f"{key}=~nobody/x: there is no home that ~ could stand for: give the whole path" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("in_yaml", mostly_slow([False, True]))
@pytest.mark.parametrize("arguments", [[], ["-m", "seed=0,1"], ["-m", "seed=0,1", "hydra/launcher=joblib"]])
def test_another_folder_for_each_run_is_refused(
    arguments: list[str], in_yaml: bool, tmp_path: Path, refusal: Refusal
) -> None:
    (tmp_path / "conf" / "mine").mkdir(parents=True)
    (tmp_path / "conf" / "mine" / "here.yaml").write_text("# @package _global_\nhydra: {job: {chdir: true}}\n")
    if "hydra/launcher=joblib" in arguments:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra 'sweep'")
    given = ["--config-dir", "conf", "+mine=here"] if in_yaml else ["hydra.job.chdir=true"]
    said = refusal("vae-run", *SMALL, *given, *arguments, cwd=tmp_path)
    assert said.startswith("vae-run: hydra.job.chdir: a run stays in the folder it is begun in")
    assert not list(tmp_path.glob("outputs/*/*"))
