"""Bad input: one line that says what is wrong and what to do, exit status 2, nothing half-written."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import COMMANDS, command
from vae_runner.config.choices import GROUPS

REFUSALS = [
    (["dataset=fashion", "dataset=mnist"], "dataset=fashion and dataset=mnist: one dataset is chosen"),
    (["loss=ae", "latent=3", "loss=vae"], "loss=ae and loss=vae: one loss is chosen"),
    (["latnt=3"], "there is no key 'latnt'. Did you mean 'latent'?"),
    (["depth=6"], "there is no key 'depth'. Did you mean 'model.depth'?"),
    (["model.dpeth=3"], "Did you mean 'model.depth'?"),
    (["dataset.root=x"], "there is no key 'dataset.root'. dataset has"),
    (["datset=fashion"], "Did you mean 'dataset'?"),
    (["dataset=fashon"], "there is no such dataset. Did you mean 'fashion'? Choose from cars3d, cartoon, digits"),
    (["dataset="], "there is no such dataset. Choose from"),
    (["experiment=reproduce/iwae_mnits"], "there is no such experiment. Did you mean 'reproduce/iwae_mnist'?"),
    (["--hlep"], "there is no option '--hlep'. Did you mean '--help'?"),
    (["--cfg", "jb"], "invalid choice: 'jb'"),
    (["--cfg", "job", "-m"], "Only one of"),
    (["--config-dir", "/nowhere"], "'/nowhere' not found"),
    (["--config-name", "nothing"], "Cannot find primary config 'nothing'"),
    (["latent=abc"], "latent=abc: must be a whole number"),
    (["latent=2.5"], "latent=2.5: must be a whole number"),
    (["latent=0"], "latent=0: must be at least 1 (dimensions)"),
    (["latent="], "latent=: must be a whole number"),
    (["latent=" + "9" * 5000], "a number in these overrides has more than 4300 digits: give another"),
    (["epochs=-1"], "epochs=-1: must be at least 1"),
    (["optimizer.learning_rate=fast"], "optimizer.learning_rate=fast: must be a number"),
    (["hardware.deterministic=perhaps"], "must be true or false"),
    (["hardware.custom_ops=true", "hardware.xla=true"], "custom operations are for fused layers in float32 on a CPU"),
    (["hardware.workers=a:1"], "hardware.workers must be a list: write hardware.workers=[…]"),
    (["hydra.run.dir="], "hydra.run.dir= is empty: give a folder"),
    (["data_dir=null"], "data_dir=null: must have a value"),
    (["latent=2,8"], "latent=2,8: several values are a sweep: add -m"),
    (["latent"], "cannot read 'latent'"),
    (["latent=(2"], "cannot read 'latent=(2'"),
    (["+epochs=3"], "+epochs=: there is such a key already; leave out the +"),
    (["model=3"], "a part is chosen by the name of a YAML file"),
    (["data_dir=${nothing}"], "data_dir=${nothing}: Interpolation key 'nothing' not found"),
    (["batch_size=123456789012345678901"], "batch_size=123456789012345678901: must be at most"),
    (["hydra.run.dirr=run"], "Did you mean 'hydra.run.dir'? vae-run --cfg hydra lists all keys."),
    (["hydra/launcher=joblib"], "hydra/launcher=joblib is for a sweep: add -m"),
    (["+nonsense=1"], "there is no key 'nonsense'"),
    (["model=[1,2]"], "model=[1,2]: one model is chosen, and no list; a run with each is -m model=1,2"),
    (["dataset=[fashion,mnist]"], "one dataset is chosen, and no list; a run with each is -m dataset=fashion,mnist"),
    (["loss=[ae,vae]"], "one loss is chosen, and no list; a run with each is -m loss=ae,vae"),
    (["optimizer=[adam]"], "optimizer=[adam]: one optimizer is chosen, and no list; write optimizer=NAME"),
    (["experiment=[]"], "experiment=[]: one experiment is chosen, and no list"),
    (["sweep=[new,resume]"], "sweep=[new,resume]: one sweep is chosen, and no list; write sweep=NAME"),
    (["-m", "seed=0,1", "hydra/launcher=[joblib,basic]"], "one hydra/launcher is chosen, and no list; write"),
    (["-m", "dataset=[fashion,mnist],digits"], "a run with each is -m dataset=fashion,mnist"),
    (["dataset=null"], "dataset=null: dataset is chosen by a name; give the name of one, or leave it out"),
    (
        ["-m", "experiment=null,tutorial_fashion"],
        "experiment=null: experiment is chosen by a name; give the name of one, or leave it out",
    ),
    (["\u2013m", "latent=2,3"], "\u2013m begins with a dash that is no hyphen, as text programs put it: type -m"),
    (["\u2014help"], "\u2014help begins with a dash that is no hyphen, as text programs put it: type --help"),
    (["latent=2", "\u2013cfg", "job"], "type --cfg"),
    (["loss.kl_weight=nan"], "must be a finite number"),
    (["~latent"], "latent was removed"),
    (["latent=(ö"], "cannot read 'latent=(ö'"),
    (["epochs=3", "--cfg", "jb", "latent=2"], "invalid choice: 'jb'"),
]


@pytest.mark.parametrize(("arguments", "message"), REFUSALS, ids=[" ".join(row[0])[:99] for row in REFUSALS])
def test_a_bad_command_line_is_refused(
    arguments: list[str], message: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert message in refusal("vae-run", *arguments, cwd=tmp_path)
    assert not list(tmp_path.iterdir()), "something was left behind"


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_a_list_of_choices_is_refused_in_every_group(group: str, tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert "is chosen, and no list" in refusal("vae-run", f"{group}=[default,none]", cwd=tmp_path)


def test_no_experiment_may_be_said_too(tmp_path: Path) -> None:
    plain, said = (
        command("vae-run", "--cfg", "job", *more, cwd=tmp_path) for more in ((), ("experiment=null", "method=null"))
    )
    assert said.returncode == 0, said.stderr
    assert said.stdout == plain.stdout


@pytest.mark.parametrize("name", ["vae-sample", "vae-compare"])
def test_a_pasted_dash_is_refused_by_the_other_commands_too(
    name: str, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    assert "type --out" in refusal(name, "run", "\u2013out", "x.png", cwd=tmp_path)


def test_a_command_in_a_folder_that_is_gone_is_refused(tmp_path: Path) -> None:
    script = "rmdir ../gone; vae-run; test $? = 2 && vae-run -m seed=0,1"
    (tmp_path / "gone").mkdir()
    result = subprocess.run(
        ["sh", "-c", script],
        cwd=tmp_path / "gone",
        env={**os.environ, "PATH": f"{COMMANDS}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2, result.stderr
    line = "vae-run: this folder cannot be used any more (No such file or directory): go to another"
    assert result.stderr.splitlines() == [line, line]


def test_an_option_may_stand_among_the_overrides(tmp_path: Path) -> None:
    result = command("vae-run", "epochs=3", "--cfg", "job", "latent=7", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert {"epochs: 3", "latent: 7"} <= set(result.stdout.splitlines())
    result = command("vae-run", "epochs=3", "--info", cwd=tmp_path)  # whose value may be left out
    assert result.returncode == 0, result.stderr


def test_a_refusal_leaves_the_users_own_empty_folders(tmp_path: Path, refusal: Callable[..., str]) -> None:
    (tmp_path / "mine").mkdir()
    refusal("vae-run", "latent=0", "hydra.run.dir=mine/run", cwd=tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]
    refusal("vae-run", "latent=0", "hydra.run.dir=run", cwd=tmp_path / "mine")
    assert (tmp_path / "mine").is_dir()


WORK_REFUSALS = [
    (["dataset=folder"], "dataset.root is not given"),
    (["dataset=folder", "dataset.root=nowhere"], "does not exist"),
    (["dataset=folder", "dataset.root=phö/n=1"], "/phö/n=1 does not exist"),
    (["dataset=folder", "dataset.root=empty"], "holds no image"),
    (["dataset=folder", "dataset.root=broken"], ".png cannot be read as an image"),
    (["dataset=fashion", "dataset.root=empty"], "there is no train-images-idx3-ubyte.gz"),
    (["dataset=fashion", "dataset.url=http://127.0.0.1:9"], "http://127.0.0.1:9/train-images-idx3-ubyte.gz"),
    (["model.downsamplings=3", "model.depth=2"], "model.downsamplings=3 does not fit model.depth=2"),
    (["early_stopping.metric=test/los"], "Did you mean 'test/loss'?"),
    (["posterior=point"], "or loss from ae, "),
    (["latent=65536", "model.filters=65536"], "of memory, and this machine has"),
    (
        ["batch_size=1000000000", "model=mlp", "model.width=65536", "model.depth=32"],
        "on 1,438 images a step takes more",
    ),
    (["hydra.run.dir=file/run"], "choose another with hydra.run.dir=DIR"),
]


@pytest.mark.parametrize(("arguments", "message"), WORK_REFUSALS, ids=[" ".join(row[0]) for row in WORK_REFUSALS])
def test_what_only_the_work_shows_is_refused(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    refusal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("VAE_RUNNER_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("a file")
    (tmp_path / "broken").mkdir()
    for name in "abc":
        (tmp_path / "broken" / f"{name}.png").write_text("no image")
    assert message in refusal("vae-run", *arguments, cwd=tmp_path)


def test_a_second_run_in_a_runs_directory_changes_nothing_there(
    finished_run: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    before = {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()}
    said = refusal("vae-run", "latent=7", f"hydra.run.dir={finished_run}", cwd=tmp_path)
    assert "holds a run already" in said
    assert {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()} == before


def test_the_installed_command_refuses_in_one_line_too(tmp_path: Path) -> None:
    result = command("vae-run", "latnt=3", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert result.stderr.splitlines() == [
        "vae-run: there is no key 'latnt'. Did you mean 'latent'? vae-run --cfg job lists all keys."
    ]


def test_a_fault_of_ours_keeps_its_traceback(tmp_path: Path) -> None:
    (tmp_path / "conf" / "loss").mkdir(parents=True)
    (tmp_path / "conf" / "loss" / "faulty.yaml").write_text("_target_: faulty.make\n")
    (tmp_path / "faulty.py").write_text("def make():\n    raise RuntimeError('a fault')\n")
    result = command(
        "vae-run", "--config-dir", "conf", "loss=faulty", "hydra.run.dir=run", cwd=tmp_path, PYTHONPATH=str(tmp_path)
    )
    assert result.returncode == 1, result.stderr
    assert "Traceback" in result.stderr
    assert "RuntimeError: a fault" in result.stderr
    assert '"failed"' in (tmp_path / "run" / "run.json").read_text()
