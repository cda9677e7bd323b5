"""One component more of each kind: a file, an entry in the room's schema, a YAML. Everything else finds it there."""

import re
import shutil
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.conftest import REPOSITORY, command, mostly_slow

# What each is made of: its room, the module and the name of what it wraps, and the schema that it adds a key to.
ADDED = {
    "dataset": ("datasets", "digits", "load", "DigitsConfig"),
    "model": ("models", "mlp", "build", "MlpConfig"),
    "posterior": ("posteriors", "gaussian", "Gaussian", "Built"),
    "prior": ("priors", "normal", "Normal", "Built"),
    "likelihood": ("likelihoods", "mse", "MeanSquaredError", "Built"),
    "loss": ("losses", "elbo", "Elbo", "VaeConfig"),
    "optimizer": ("acceleration", "optimizers", "Adam", "AdamConfig"),
    "schedule": ("training", "schedules", "cosine", "CosineConfig"),
    "figure": ("figures", "samples", "samples", "Built"),
}
PARTS = [group for group in ADDED if group != "figure"]
FILE = """\
from vae_runner.{room}.{module} import {name}


def added(*arguments, strength, **keys):
    print("{group} has strength", strength)
    return {name}(*arguments, **keys)
"""
ENTRY = """
from dataclasses import dataclass
from vae_runner.config.keys import key
from vae_runner.config.registry import Built, Component


@dataclass
class AddedConfig({schema}):
    strength: float = key(1.0, minimum=0, below=9)


COMPONENTS += (Component("{group}", "added", "vae_runner.{room}.added.added", AddedConfig, "strength"),)
"""
YAML = "defaults: [/schema/{group}/added@_here_, _self_]\nstrength: 2.5\n"
FIGURES = """\
defaults: [none, _self_]
final:
  added: {_target_: vae_runner.figures.added.added, _partial_: true, strength: 2.5, rows: 2, columns: 3}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with a component more of each kind, in which the commands run."""
    folder = tmp_path_factory.mktemp("package")
    package = folder / "vae_runner"
    shutil.copytree(REPOSITORY / "vae_runner", package)
    shutil.copytree(REPOSITORY / "conf", package / "conf")
    for group, (room, module, name, schema) in ADDED.items():
        words = {"group": group, "room": room, "module": module, "name": name, "schema": schema}
        (package / room / "added.py").write_text(FILE.format(**words))
        with (package / room / "schema.py").open("a") as file:
            file.write(ENTRY.format(**words))
        if group in PARTS:
            (package / "conf" / group / "added.yaml").write_text(YAML.format(group=group))
    (package / "conf" / "figures" / "added.yaml").write_text(FIGURES)
    return folder


def ask(folder: Path, name: str, *arguments: str) -> CompletedProcess[str]:
    return command(name, *arguments, cwd=folder, PYTHONPATH=str(folder))


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A run of nothing but what was added."""
    chosen = [f"{group}=added" for group in [*PARTS, "figures"]]
    small = ("dataset.limit=50", "model.width=8", "epochs=1", "batch_size=16", "hardware.custom_ops=false")
    result = ask(folder, "vae-run", *chosen, *small, "optimizer.strength=3", "hydra.run.dir=run")
    assert result.returncode == 0, result.stderr
    for group in ADDED:
        assert f"{group} has strength {3.0 if group == 'optimizer' else 2.5}" in result.stdout
    assert (folder / "run" / "figures" / "added.png").exists()
    return folder / "run"


def test_help_names_them_and_their_most_used_keys(folder: Path) -> None:
    text = ask(folder, "vae-run", "--help").stdout
    for group in [*PARTS, "figures"]:
        assert re.search(rf"^  {group}= [^=]*\badded\b", text, re.MULTILINE)
    assert len(re.findall(r"added:\s+\.strength", text)) == len(PARTS)


@pytest.mark.parametrize("group", mostly_slow(PARTS, quick=2))
def test_the_checks_know_their_keys_and_bounds(group: str, folder: Path) -> None:
    result = ask(folder, "vae-run", f"{group}=added", f"{group}.strength=9")
    assert (result.returncode, result.stderr) == (2, f"vae-run: {group}.strength=9.0: must be less than 9\n")


def test_a_run_of_them_is_resumed_and_sampled_from_without_being_told_to_trust_them(run: Path) -> None:
    result = ask(run.parent, "vae-run", "resume=run", "epochs=2")
    assert result.returncode == 0, result.stderr
    assert "optimizer has strength 3.0" in result.stdout
    result = ask(run.parent, "vae-sample", "run", "-n", "2")
    assert result.returncode == 0, result.stderr


def test_the_types_of_a_resumed_run_are_those_of_their_schemas(run: Path) -> None:
    damaged = run.parent / "damaged"
    shutil.copytree(run, damaged)
    file = damaged / "config.yaml"
    file.write_text(file.read_text().replace("strength: 3.0", "strength: deep"))
    result = ask(run.parent, "vae-run", "resume=damaged", "epochs=3")
    assert result.returncode == 2, result.stderr
    assert "damaged/config.yaml: Value 'deep' of type 'str' could not be converted to Float" in result.stderr
