"""`vae-runs`: which runs there are, from their directories alone."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import command
from vae_runner.cli.where import parsed
from vae_runner.errors import UserError
from vae_runner.files.locks import Lock
from vae_runner.files.sealed import seal
from vae_runner.runtime.surroundings import packages, processor
from vae_runner.storage.catalog import RunRecord, runs, varied
from vae_runner.storage.names import RunPaths
from vae_runner.storage.notes import Notes, change_notes, read_notes

Said = Callable[..., str]


def made(path: Path, **entries: Any) -> Path:
    """A run directory with a run.json like that of a run that has ended, and nothing else."""
    keys = {f"loss.key_{number}": number / 8 for number in range(20)}
    info = {
        "versions": {"vae_runner": "0.2.0", "python": "3.11.0"},
        "status": "finished",
        "started": "2026-11-26T12:00:00+0000",
        "commands": ["vae-run latent=8"],
        "git": None,
        "packages": packages(),
        "hardware": {"cpu": "some", "cpu_flags": processor()[1]},
        "choices": {"dataset": "digits", "loss": "vae", "figures": "none"},
        "settings": {"dataset": "digits", "loss": "vae", "latent": 8, "model.conditional": False, **keys},
        "given": ["latent", "figures"],
        "epoch": 3,
        "step": 30,
        "metrics": {**{f"train/metric_{number}": number / 7 for number in range(10)}, "test/loss": 40.5},
        "seconds": 12.5,
        "format": 2,
        **entries,
    }
    path.mkdir(parents=True)
    (path / "run.json").write_text(json.dumps(seal(info), indent=2))
    return path


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Runs of several kinds, some of them in a sweep."""
    folder = tmp_path / "outputs"
    made(folder / "a-day" / "first", started="2026-11-25T12:00:00+0000")
    sweep = folder / "a-day" / "sweep"
    for latent, loss in ((2, 50.0), (32, 30.25)):
        settings = {"dataset": "digits", "loss": "iwae", "latent": latent, "seed": 1}
        made(
            sweep / f"latent_{latent}-00000000", settings=settings, given=["latent", "loss", "seed"],
            choices={"dataset": "digits", "loss": "iwae"}, metrics={"test/loss": loss},
        )  # fmt: skip
    (sweep / "sweep.json").write_text("{}")
    made(folder / "failed", status="failed", error="it diverged", metrics={})
    made(folder / "dead", status="running", started="2026-11-26T13:00:00+0000")
    older = made(folder / "older", started="2026-11-24T12:00:00+0000")
    info = json.loads((older / "run.json").read_text())
    for key in ("settings", "given", "packages", "commands", "git", "checksum"):
        del info[key]
    (older / "run.json").write_text(json.dumps(seal(info)))
    return folder


@pytest.fixture
def said(in_process: Callable[..., None], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Said:
    """What `vae-runs` says, run in this process beside `outputs`."""

    def run(*given: object) -> str:
        in_process("vae-runs", *given, cwd=tmp_path)
        return capsys.readouterr().out

    return run


def names(table: str) -> list[str]:
    return [line.split()[0].removeprefix("outputs/") for line in table.splitlines()[1:-1]]


def test_all_runs_below_a_folder_are_listed_the_oldest_first_those_of_sweeps_too(outputs: Path, said: Said) -> None:
    table = said()
    swept = [f"a-day/sweep/latent_{latent}-00000000" for latent in (2, 32)]
    assert names(table) == ["older", "a-day/first", *swept, "failed", "dead"]
    header, *lines, count = table.splitlines()
    assert header.split() == ["run", "status", "method", "dataset", "epoch", "test/loss", "age", "given"]
    assert count == "6 runs"
    cells = lines[2].split()
    assert cells[1:6] == ["finished", "iwae", "digits", "3", "50"]
    assert lines[2].endswith("latent=2 seed=1")  # figures=none decides nothing, and the loss has its column
    assert lines[1].endswith("latent=8")
    assert [line.split()[1] for line in lines[-2:]] == ["failed", "dead"]
    assert said("outputs/a-day/sweep").splitlines()[1].endswith("latent=2")  # seed=1 is common to them
    assert names(said("--metric", "train/metric_7", "--where", "status=failed")) == ["failed"]


def test_a_damaged_run_is_a_line_that_says_so_and_the_others_are_as_ever(outputs: Path, said: Said) -> None:
    file = outputs / "a-day" / "first" / "run.json"
    file.write_text(file.read_text().replace("40.5", "10.5"))
    (outputs / "failed" / "run.json").write_text("{")
    lost = outputs / "lost"
    lost.mkdir()
    for name in (".lock", "config.yaml"):
        (lost / name).touch()
    made(outputs / "newer", format=3)
    os.mkfifo(outputs / "dead" / "pipe")
    (outputs / "dead" / "run.json").unlink()
    os.mkfifo(outputs / "dead" / "run.json")
    (outputs / "loop").symlink_to(outputs)
    found = {record.path.name: record for record in runs(outputs)}
    assert {name: record.status for name, record in found.items()} == {
        **{"older": "finished", "latent_2-00000000": "finished", "latent_32-00000000": "finished"},
        **{"first": "damaged", "failed": "damaged", "lost": "damaged", "dead": "damaged", "newer": "unsupported"},
    }
    assert found["first"].metrics == {}  # what is damaged is not shown as a result
    table = said()
    assert "does not have the checksum" in next(line for line in table.splitlines() if "/first " in line)
    assert "run.json is missing" in next(line for line in table.splitlines() if "/lost " in line)


def test_the_best_are_ranked_by_a_metric_that_they_have(outputs: Path, said: Said) -> None:
    swept = [f"a-day/sweep/latent_{latent}-00000000" for latent in (2, 32)]
    assert names(said("best", "--metric", "test/loss", "-n", 2)) == [swept[1], "older"]
    assert names(said("best", "--highest"))[0] == swept[0]
    assert said("best", "-n", 1).endswith("\n1 run\n")
    assert names(said("best", "outputs/a-day", "--where", "latent<10 and loss=vae")) == ["a-day/first"]


def test_what_vae_evaluate_has_measured_ranks_and_chooses_runs_too(outputs: Path, said: Said) -> None:
    for name, value in (("a-day/first", -90.0), ("failed", -80.0)):
        weights = outputs / name / "models" / "weights.npz"
        weights.parent.mkdir()
        weights.write_bytes(name.encode())
        entry = {"values": {"log_likelihood": value}, "standard_errors": {}, "notes": []}
        from vae_runner.storage.stored_run import digest_of

        content = {"of_weights": digest_of(name.encode()), "metrics": {"importance_sampling": entry}}
        (outputs / name / "evaluation").mkdir()
        (outputs / name / "evaluation" / "metrics.json").write_text(json.dumps(seal(content)))
    name = "evaluation/log_likelihood"
    assert names(said("best", "--metric", name, "--highest")) == ["failed", "a-day/first"]
    assert names(said("--where", f"{name}>-85")) == ["failed"]
    assert f"{name}" in said("show", "outputs/failed")


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("latent>8", ["latent_32"]),
        ("latent>=8 and test/loss<40", ["latent_32"]),
        ("latent == 8 and status!=finished", ["failed", "dead"]),
        ("loss = 'iwae' and seed=1.0", ["latent_2", "latent_32"]),
        ('model.conditional=false and run!="outputs/failed" and status=dead', ["dead"]),
        ("epoch>3", []),
        ("seed=null and latent=null", ["older"]),
        ("dataset=digits and method=vae and step<=30 and seconds>12", ["older", "first", "failed", "dead"]),
        ("tag=good", []),
        ("tag!=good and latent<3", ["latent_2"]),
        ("tag=null and latent<3", ["latent_2"]),
        ("tag!=null", []),
    ],
)
def test_a_condition_chooses_runs_by_settings_metrics_and_words(
    condition: str, expected: list[str], outputs: Path, said: Said
) -> None:
    assert [name.split("/")[-1].split("-")[0] for name in names(said("--where", condition))] == expected


@pytest.mark.parametrize(
    "condition",
    [
        "latent", "latent>", ">8", "latent>8 or latent<2", "latent>8 and", "latent>8latent<2", "latent=8,test/loss<2",
        "__import__('os').system('touch pwned')", "latent>(8)and(1)", "latent>many", "latent='8", "and", "a b=c",
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused_and_never_evaluated(condition: str) -> None:
    with pytest.raises(UserError, match=r"--where: "):
        parsed(condition)
    assert not Path("pwned").exists()


def test_what_is_varied_is_what_commands_gave_but_for_what_all_gave_alike() -> None:
    records = [
        RunRecord(Path(str(latent)), "finished", settings={"latent": latent, "epochs": 3, "seed": 0}, given=given)
        for latent, given in ((2, ["latent", "epochs"]), (8, ["latent", "epochs", "seed"]))
    ]
    assert varied(records) == [{"latent": 2}, {"latent": 8, "seed": 0}]
    assert varied(records[:1]) == [{"latent": 2, "epochs": 3}]
    assert varied([*records, RunRecord(Path("older"), "finished")]) == [{"latent": 2}, {"latent": 8, "seed": 0}, {}]


def test_json_has_all_that_is_known(outputs: Path, said: Said) -> None:
    (listed,) = json.loads(said("--json", "--where", "status=failed"))
    assert (listed["run"], listed["status"], listed["error"]) == ("outputs/failed", "failed", "it diverged")
    assert listed["settings"]["latent"] == 8
    shown = json.loads(said("show", "outputs/failed", "--json"))
    assert shown["run.json"]["packages"] == packages()
    assert "seconds" not in shown  # but among the metrics, where they are looked for


def test_a_run_is_shown_with_what_ran_and_what_came_of_it(finished_run: Path, said: Said) -> None:
    shown = said("show", finished_run)
    for part in ("vae-run epochs=3 figures.every=2", "tensorflow 2.", "test/loss", "epoch 3, step ", "finished"):
        assert part in shown
    settings = dict(line.split(maxsplit=1) for line in shown.splitlines())
    assert "worked" not in settings  # which `seconds` says
    assert (settings["epochs"], settings["loss.kl_weight"], settings["model.conditional"]) == ("3", "1", "false")
    assert "posterior=gaussian" in settings["choices"]
    worked = json.loads((finished_run / "run.json").read_text())["seconds"]
    assert float(settings["seconds"]) == pytest.approx(worked, rel=1e-3)  # and not those of the last epoch


def test_tags_and_a_note_are_kept_beside_the_run_and_found_again(
    outputs: Path, said: Said, refusal: Callable[..., str], tmp_path: Path
) -> None:
    run = outputs / "a-day" / "first"
    before = (run / "run.json").read_bytes()
    assert said("tag", "outputs/a-day/first", "good", "baseline", "good") == "outputs/a-day/first: good baseline\n"
    assert said("note", "outputs/a-day/first", "the one in the paper") == "outputs/a-day/first: the one in the paper\n"
    assert names(said("--where", "tag=baseline")) == ["a-day/first"]
    assert "good baseline" in said()
    assert "the one in the paper" in said("show", "outputs/a-day/first")
    assert said("tag", "--remove", "outputs/a-day/first", "good") == "outputs/a-day/first: baseline\n"
    assert (run / "run.json").read_bytes() == before
    assert sorted(path.name for path in run.iterdir()) == [".notes.lock", "notes.json", "run.json"]
    said("tag", "--remove", "outputs/a-day/first", "baseline")
    said("note", "outputs/a-day/first", "")
    assert not (run / "notes.json").exists()

    assert "a tag is a word" in refusal("vae-runs", "tag", "outputs/failed", "two words", cwd=tmp_path)
    assert "is no run directory" in refusal("vae-runs", "note", "outputs/a-day", "text", cwd=tmp_path)
    (run / "notes.json").write_text("{}")
    assert "notes.json cannot be used" in refusal("vae-runs", "tag", "outputs/a-day/first", "good", cwd=tmp_path)
    assert "a-day/first" in names(said())


def test_two_commands_that_change_notes_at_the_same_moment_lose_none_of_them(outputs: Path) -> None:
    run = RunPaths(outputs / "failed")
    begun, may_end = threading.Event(), threading.Event()

    def slowly(notes: Notes) -> Notes:
        begun.set()
        assert may_end.wait(timeout=60)
        return Notes([*notes.tags, "slow"], notes.note)

    slow = threading.Thread(target=lambda: change_notes(run, slowly))
    quick = threading.Thread(target=lambda: change_notes(run, lambda notes: Notes(notes.tags, "quick")))
    slow.start()
    assert begun.wait(timeout=60)
    quick.start()
    quick.join(timeout=0.2)  # It waits for the other.
    may_end.set()
    for thread in (slow, quick):
        thread.join(timeout=60)
    assert read_notes(run.notes_file) == Notes(["slow"], "quick")


def test_a_run_is_removed_with_all_that_is_in_it(outputs: Path, said: Said, finished_run: Path) -> None:
    run = outputs / "2026-11-26" / "12-00-00"
    shutil.copytree(finished_run, run)
    (run / "console.txt").unlink()
    (run / "git.diff").touch()
    damaged = outputs / "failed"
    (damaged / "run.json").write_text("{")
    assert said("rm", "--yes", run, "outputs/failed") == f"deleted {run}\ndeleted outputs/failed\n"
    assert not run.parent.exists()  # its date's folder neither
    assert not damaged.exists()
    assert "older" in names(said())


def test_what_is_no_run_or_under_way_or_holds_what_no_run_has_written_is_not_removed(
    outputs: Path, refusal: Callable[..., str], tmp_path: Path
) -> None:
    mine = outputs / "failed" / "thesis.txt"
    mine.write_text("mine")
    (outputs / "link").symlink_to(outputs / "older")
    lock = Lock(outputs / "dead" / ".lock")
    assert lock.acquire(timeout=0)
    before = sorted(path for path in outputs.rglob("*") if path.name != ".lock")
    try:
        for given, reason in (
            (["--yes", "outputs"], "outputs is no run directory: it has no run.json"),
            (["--yes", "outputs/older", "outputs/a-day/sweep"], "outputs/a-day/sweep is no run directory"),
            (["--yes", "outputs/nowhere"], "outputs/nowhere does not exist"),
            (["--yes", "outputs/dead"], "outputs/dead is in use"),
            (["--yes", "outputs/failed"], "outputs/failed holds thesis.txt, which no run has written"),
            (["--yes", "outputs/link"], "outputs/link is a link"),
            (["outputs/older"], "there is no terminal to ask on whether it is to be deleted: add --yes"),
        ):
            assert reason in refusal("vae-runs", "rm", *given, cwd=tmp_path)
    finally:
        lock.release()
    assert sorted(path for path in outputs.rglob("*") if path.name != ".lock") == before


def test_rm_asks_on_a_terminal_and_no_keeps_the_run(outputs: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    answers = iter(["n", None, "yes"])

    def answer(question: str) -> str:
        asked.append(question)
        if (given := next(answers)) is None:
            raise EOFError  # Ctrl-D
        return given

    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", answer)
    assert said("rm", "outputs/older") == ""
    assert said("rm", "outputs/older") == "\n"
    assert (outputs / "older" / "run.json").exists()
    assert said("rm", "outputs/older") == "deleted outputs/older\n"
    assert asked == ["Delete outputs/older (finished, epoch 3)? [y/N] "] * 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["nowhere"], "nowhere does not exist: give a folder with runs below it, or best, show, rm, tag, note."),
        (["bset"], "Did you mean 'best'?"),
        (["outputs", "--where", "latnt>8"], "no run has 'latnt'. Did you mean 'latent'?"),
        (["outputs", "--where", "key_7>8"], "no run has 'key_7'. Did you mean 'loss.key_7'"),
        (["outputs", "--where", "metric_3=1"], "Did you mean 'train/metric_3'"),
        (["best", "--metric", "test/los"], "no run has 'test/los'. Did you mean 'test/loss'?"),
        (["--jsn"], "there is no option '--jsn'. Did you mean '--json'?"),
        (["best", "-n", "0"], "0 is not a whole number of at least 1"),
        (["show", "outputs/a-day"], "is no run directory"),
    ],
)
def test_mistakes_are_refused_in_one_line(
    given: list[str], said: str, outputs: Path, refusal: Callable[..., str], tmp_path: Path
) -> None:
    assert said in refusal("vae-runs", *given, cwd=tmp_path)


def test_the_installed_command_imports_neither_tensorflow_nor_hydra(outputs: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['vae-runs']\n"
        "from vae_runner.cli.commands import runs\n"
        "runs()\n"
        "print({'tensorflow', 'keras', 'matplotlib', 'sklearn', 'rich', 'hydra'} & set(sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.endswith("6 runs\nset()\n")
    installed = command("vae-runs", cwd=tmp_path)
    assert (installed.returncode, installed.stdout) == (0, result.stdout.removesuffix("set()\n"))


def test_a_thousand_runs_are_read_in_a_tenth_of_the_time_of_which_ten_thousand_have_two_seconds(
    tmp_path: Path,
) -> None:
    first = made(tmp_path / "outputs" / "0" / "0")
    for number in range(1, 1000):
        shutil.copytree(first, tmp_path / "outputs" / str(number // 100) / str(number))
    seconds = []
    for _ in range(5):
        start = time.process_time()
        assert len(runs(tmp_path / "outputs")) == 1000
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.2
