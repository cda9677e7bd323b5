"""`vae-run rerun=RUN`: the same configuration once more, in a directory of its own."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.conftest import command
from vae_runner.files.sealed import seal

SHORT = ("epochs=1", "figures=none")


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished_run, tmp_path / "run"))


def test_a_run_is_repeated_with_its_configuration_and_the_console_says_what_is_other_around_it(
    run: Path, tmp_path: Path
) -> None:
    info = json.loads((run / "run.json").read_text())
    del info["checksum"]
    info["packages"] = re.sub(r" numpy==\S+", " numpy==0.1", info["packages"])
    info["hardware"]["host"] = "elsewhere"
    info["choices"]["prior"] = "named_otherwise"
    (run / "run.json").write_text(json.dumps(seal(info)))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    arguments = ("rerun=run", *SHORT, "loss.kl_weight=2", "dataset.limit=64", "hydra.run.dir=again")
    result = command("vae-run", *arguments, cwd=tmp_path, SECRET_TOKEN="s3cr3t-t0ken")
    assert result.returncode == 0, result.stderr

    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    again = json.loads((tmp_path / "again" / "run.json").read_text())
    then, now = (yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in ("run", "again"))
    then["epochs"], then["loss"]["kl_weight"], then["dataset"]["limit"] = 1, 2.0, 64
    then["figures"] = now["figures"]
    assert now == then
    assert again["status"] == "finished"
    assert again["rerun_of"] == str(run)
    assert again["commands"] == ["vae-run " + " ".join(arguments)]
    assert again["choices"]["prior"] == "named_otherwise"
    assert again["choices"]["figures"] == "none"
    assert again["settings"]["loss.kl_weight"] == 2
    assert set(again["given"]) == {*info["given"], "epochs", "figures", "loss.kl_weight", "dataset.limit"}
    said = result.stdout[result.stdout.index("Repeats run; differences:") :].splitlines()
    for line in ("  versions: numpy 0.1 → 2.", "  machine: host elsewhere → ", "  data: train: "):
        assert any(of.startswith(line) for of in said), said
    assert "s3cr3t-t0ken" not in (tmp_path / "again" / "run.json").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rerun="], "rerun= is empty: give a run directory"),
        (["rerun=nowhere"], "nowhere does not exist: give a run directory"),
        (["rerun=run", "-m"], "rerun= repeats one run; to repeat a sweep, give its command another sweep.dir"),
        (["rerun=run", "resume=run"], "resume=run: rerun= begins a new run, and resume= continues one"),
        (["rerun=run", "loss=iwae"], "loss=iwae: rerun= repeats a run with the parts that it has"),
        (["rerun=run", "loss.kl_wieght=2"], "has no key 'loss.kl_wieght'. Did you mean 'kl_weight'?"),
        (["rerun=run", "method=iwae"], "has no key 'method'."),
        (["rerun=run", "latent=2,8"], "latent=2,8: several values are a sweep, and rerun= repeats one run"),
        (["rerun=run", "+latent=2"], "+latent=2: rerun= takes other values of keys that the run has"),
        (["rerun=run", "latent=many"], "latent: Value 'many' of type 'str' could not be converted to Integer"),
        (["rerun=run", "latent=-1"], "latent=-1: must be at least 1"),
        (["rerun=run", "--cfg", "job"], "the configuration of a repeated run is in it: look at run/config.yaml"),
        (["rerun=run", "hydra.run.dir=run"], "run holds a run already"),
    ],
)
def test_what_is_no_repetition_is_refused_in_one_line_and_leaves_nothing(
    arguments: list[str], said: str, run: Path, refusal: Callable[..., str], tmp_path: Path
) -> None:
    assert said in refusal("vae-run", *arguments, cwd=tmp_path)
    assert not (tmp_path / "outputs").exists()
