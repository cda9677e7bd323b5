"""What `eval "$(vae-run -sc install=bash)"` promises: Tab completes what can be chosen."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import COMMANDS
from vae_runner.cli.completion import SCRIPT, UNINSTALL, complete_options

# What Bash does when Tab is pressed at the end of a line, beside showing the answers.
TAB = r"""
eval "$(vae-run -sc install=bash)"
complete -p vae-run
COMP_LINE="$1"
COMP_POINT=${#COMP_LINE}
COMP_WORDS=($COMP_LINE)
COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
hydra_bash_completion
printf '%s\n' "${COMPREPLY[@]}"
"""


def completions(line: str, cwd: Path) -> list[str]:
    """What Bash offers for a line, after the one that says which function it asks."""
    environment = {**os.environ, "PATH": f"{COMMANDS}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", "--norc", "-c", TAB, "bash", line],
        cwd=cwd, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    first, *offered = result.stdout.splitlines()
    assert re.search(r"-F hydra_bash_completion vae-run$", first)
    return offered


@pytest.mark.parametrize(
    ("line", "some", "others"),
    [
        ("vae-run dataset=", ["dataset=digits", "dataset=fashion"], ["dataset"]),
        ("vae-run epochs=3 method=be", ["method=beta_vae", "method=beta_tcvae"], ["method=vae"]),
        ("vae-run dataset=fashion optimizer.lear", ["optimizer.learning_rate="], []),
        ("vae-run -m hydra/sweeper=op", ["hydra/sweeper=optuna"], []),
        ("vae-run -m --dry-run experiment=reproduce/iwae_mnist_", ["experiment=reproduce/iwae_mnist_k50"], []),
        ("vae-run +experiment=reproduce/iwae_mnist_", ["+experiment=reproduce/iwae_mnist_k50"], []),
        ("vae-run -m --d", ["--dry-run"], ["--multirun"]),
    ],
)
def test_tab_completes_groups_choices_and_keys(line: str, some: list[str], others: list[str], tmp_path: Path) -> None:
    offered = completions(line, tmp_path)
    assert set(some) <= set(offered)
    assert not set(others) & set(offered)
    assert all(word.startswith(line.split()[-1]) for word in offered)


OTHERS = r"""
eval "$(vae-run -sc install=bash)"
complete -p vae-sample vae-reconstruct
offer() {
    COMP_WORDS=("$@")
    COMP_CWORD=$(( ${#COMP_WORDS[@]} - 1 ))
    _vae_runner_completion "$1"
    echo "${COMPREPLY[*]}"
}
mkdir -p "outputs/a day/first" outputs/other
offer vae-runs b
offer vae-runs --wh
offer vae-runs tag outputs/other --r
offer vae-sample "outputs/a day/f"
offer vae-sample outputs/other --com
offer vae-evaluate outputs/other --fac
offer vae-encode outputs/
"""


def test_tab_completes_options_and_run_directories_of_the_other_commands(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{COMMANDS}:{os.environ['PATH']}"}
    result = subprocess.run(
        ["bash", "--norc", "-c", OTHERS],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert result.stderr == ""
    *rules, verb, where, remove, run, components, factors, folders = result.stdout.splitlines()
    assert all("-F _vae_runner_completion" in rule for rule in rules)
    assert (verb, where, remove, run) == ("best", "--where", "--remove", "outputs/a day/first")
    assert (components, factors, folders) == ("--components", "--factors", "outputs/a day outputs/other")


def test_the_other_words_of_vae_runs_are_completed(refusal: Callable[..., str], tmp_path: Path) -> None:
    (offered,) = re.findall(r'verbs="(.*?)"', SCRIPT)
    assert f"or {', '.join(offered.split())}." in refusal("vae-runs", "nowhere", cwd=tmp_path)


def test_each_option_is_a_line_of_its_own(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_LINE", "vae-run --")
    assert complete_options()
    assert {"--dry-run", "--multirun", "-m"} <= set(capsys.readouterr().out.splitlines())


def test_nothing_is_completed_any_more_when_that_is_uninstalled(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{COMMANDS}:{os.environ['PATH']}"}
    both = 'eval "$(vae-run -sc install=bash)"; complete -p vae-run; eval "$(vae-run -sc uninstall=bash)"; complete -p'
    result = subprocess.run(
        ["bash", "--norc", "-c", f"{both}; declare -F"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    first, *left = result.stdout.splitlines()
    assert first.endswith(" vae-run")
    assert [line for line in left if "vae" in line] == []
    assert result.stderr == ""


def test_completion_that_was_never_installed_is_uninstalled_without_a_word() -> None:
    script = f"complete -W word other; {UNINSTALL}"  # Without any rule at all, Bash says nothing.
    result = subprocess.run(["bash", "--norc", "-c", script], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_completion_makes_no_folder(tmp_path: Path) -> None:
    assert completions("vae-run hydra.run.dir=", tmp_path)
    assert not list(tmp_path.iterdir())
