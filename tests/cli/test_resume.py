"""What `vae-run resume=RUN` promises, with real processes and real signals."""

import csv
import dataclasses
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer

from tests.conftest import COMMANDS, ROUNDS, command
from tests.forks import ForkedCommand, can_be_forked
from vae_runner.cli.resume import rewritten
from vae_runner.config import registry
from vae_runner.config.composition import COMMAND_KEYS
from vae_runner.config.keys import leaves
from vae_runner.errors import UserError
from vae_runner.evaluation.schema import EvaluationConfig
from vae_runner.figures.schema import FiguresConfig
from vae_runner.runtime.schema import HardwareConfig
from vae_runner.schema import CommandConfig
from vae_runner.storage.resume import check_checkpoint_config
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.training.schema import CheckpointConfig, EarlyStoppingConfig

EPOCHS = 6
SAME = ("hardware.deterministic=true", "dataset.limit=300", "batch_size=8", f"epochs={EPOCHS}")

Started = subprocess.Popen[str] | ForkedCommand


def start(*arguments: str, cwd: Path, prepare: Callable[[], object] | None = None) -> Started:
    """`vae-run` in the background, with the signals of a command in the foreground."""

    def in_child() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):  # which a shell's background jobs and nohup ignore
            signal.signal(number, signal.SIG_DFL)
        if prepare:
            prepare()

    words = [str(COMMANDS / "vae-run"), *arguments]
    environment = {**os.environ, "VAE_RUNNER_DATA": str(cwd / "data")}
    if prepare is None and can_be_forked(words, environment):
        return ForkedCommand(words, cwd, environment)
    return subprocess.Popen(
        words, cwd=cwd, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        preexec_fn=in_child,
    )  # fmt: skip


def wait_for(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)


def table(run: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv without what the clock decides."""
    with (run / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if "second" not in k} for row in csv.DictReader(file)]


def variables(run: Path) -> dict[str, np.ndarray]:
    """Networks and optimizer in the newest checkpoint."""
    newest = max((run / "checkpoints").glob("step_*.npz"))
    with np.load(newest, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays if name != "state"}


def events(run: Path) -> dict[str, list[int]]:
    """The steps of everything TensorBoard shows."""
    logs = EventMultiplexer(tensor_size_guidance={"tensors": 0}).AddRunsFromDirectory(str(run)).Reload()
    return {
        f"{folder}/{tag}": [event.step for event in logs.Tensors(folder, tag)]
        for folder, tags in logs.Runs().items()
        for tag in tags["tensors"]
    }


def info(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "run.json").read_text()))


def status(run: Path) -> str:
    return str(info(run)["status"])


def assert_same(run: Path, reference: Path) -> None:
    """Both runs left the same: weights, optimizer, metrics, TensorBoard's steps, pictures."""
    assert table(run) == table(reference)
    ours, theirs = variables(run), variables(reference)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_array_equal(ours[name], value, strict=True)
    assert events(run) == events(reference)
    pictures = [sorted(p.relative_to(r) for p in (r / "figures").rglob("*.png")) for r in (run, reference)]
    assert pictures[0] == pictures[1]
    assert status(run) == "finished"


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("reference")
    result = command("vae-run", *SAME, "figures.every=2", "hydra.run.dir=run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "run"


@pytest.mark.parametrize("kills", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_a_run_killed_at_random_again_and_again_ends_like_one_that_was_not(
    kills: int, reference: Path, tmp_path: Path
) -> None:
    for round_ in range(ROUNDS):
        run = tmp_path / f"run{round_}"
        often = ("figures.every=2", "checkpoint.every_minutes=0.002")  # a checkpoint after each call of the loop
        for kill in range(kills):
            begun = (f"resume={run.name}", *often) if run.exists() else (*SAME, *often, f"hydra.run.dir={run.name}")
            kill_while_it_trains(start(*begun, cwd=tmp_path), run / "vae-run.log", kill)
        result = command("vae-run", f"resume={run.name}", *often, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
        assert_same(run, reference)


def kill_while_it_trains(process: Started, log: Path, before: int) -> None:
    """Kill it between 0 and 1.5 s after it said that it begins, as `before` others in that log have done."""

    def begun() -> int:
        text = log.read_text() if log.exists() else ""
        return text.count("Device: ") + text.count("Resumed in epoch")

    wait_for(lambda: process.poll() is not None or begun() > before)
    time.sleep(random.random() * 1.5)
    process.kill()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, f"it had ended already: {stderr}"


@pytest.mark.parametrize(
    ("number", "exit_status"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
def test_a_signal_ends_in_a_checkpoint_and_one_line_and_the_run_goes_on_like_one_that_had_none(
    number: signal.Signals, exit_status: int, reference: Path, tmp_path: Path
) -> None:
    process = start(*SAME, "figures.every=2", "checkpoint.every=0", "hydra.run.dir=run", cwd=tmp_path)
    run = tmp_path / "run"
    wait_for(lambda: (run / "metrics.csv").exists() and len(table(run)) >= 1)
    start_ = time.monotonic()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - start_ < 10
    assert process.returncode == exit_status, stderr
    said = re.fullmatch(r"vae-run: (interrupted at step (\d+): vae-run resume=run continues it)\n", stderr)
    interrupted = info(run)
    assert said is not None
    assert (run / "vae-run.log").read_text().endswith(f"{said[1]}\n"), (
        "it may have been printed to a terminal that is gone"
    )
    assert interrupted["step"] == int(said[2])
    assert interrupted["status"] == "interrupted"

    result = command("vae-run", "resume=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    resumed, ended = (datetime.fromisoformat(moment) for moment in (info(run)["resumed"][-1], info(run)["ended"]))
    part = info(run)["seconds"] - interrupted["seconds"]
    assert part == pytest.approx((ended - resumed).total_seconds(), abs=1.1)
    assert_same(run, reference)


@pytest.mark.slow
def test_a_run_stopped_in_the_middle_of_a_long_epoch_ends_like_one_that_was_not(tmp_path: Path) -> None:
    """Images, sums and noise of an epoch of many calls of the compiled loop."""
    epoch = 1438  # steps, one an image: more than two calls of one step and one of the most that there may be, 1,000
    keys = ("hardware.deterministic=true", "model=mlp", "model.width=8", "batch_size=1", "epochs=1", "figures=none")
    result = command("vae-run", *keys, "hydra.run.dir=reference", cwd=tmp_path)
    assert result.returncode == 0, result.stderr

    process = start(*keys, "checkpoint.every_minutes=0.00001", "hydra.run.dir=run", cwd=tmp_path)
    run = tmp_path / "run"
    wait_for(lambda: any(file.stem >= "step_0000000002" for file in run.glob("checkpoints/step_*.npz")))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    assert 2 <= info(run)["step"] < epoch

    result = command("vae-run", "resume=run", "checkpoint.every_minutes=0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert info(run)["step"] == epoch
    assert_same(run, tmp_path / "reference")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("imported", ["hydra", "tensorflow"])
def test_a_signal_while_the_command_is_imported_is_one_line_and_leaves_nothing(
    number: signal.Signals, imported: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "slow"))
    monkeypatch.setenv("BEGUN", str(tmp_path / "slow" / "begun"))
    (tmp_path / "slow" / imported).mkdir(parents=True)
    (tmp_path / "slow" / imported / "__init__.py").write_text(
        # Python answers a signal that comes just before it falls asleep when it wakes up.
        "import os, time\nopen(os.environ['BEGUN'], 'w').close()\nfor _ in range(600): time.sleep(0.1)\n"
    )
    (tmp_path / "empty").mkdir()
    process = start("hydra.run.dir=run", cwd=tmp_path / "empty")
    wait_for((tmp_path / "slow" / "begun").exists)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (128 + number, "vae-run: interrupted\n")
    assert not list((tmp_path / "empty").iterdir())


@pytest.mark.slow
def test_a_run_goes_on_when_nobody_reads_what_it_says_any_more(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [COMMANDS / "vae-run", *SAME, "figures=none", "hydra.run.dir=run"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(120) == 0
    assert status(tmp_path / "run") == "finished"
    assert f"epoch {EPOCHS}/{EPOCHS}" in (tmp_path / "run" / "vae-run.log").read_text()


@pytest.mark.slow
def test_closed_output_takes_no_file_of_the_run(tmp_path: Path) -> None:
    arguments = " ".join((*SAME, "epochs=1", "figures=none", "hydra.run.dir=run"))
    script = f"{COMMANDS}/vae-run {arguments} >&- 2>&-"
    assert subprocess.run(["sh", "-c", script], cwd=tmp_path, check=False).returncode == 0
    assert status(tmp_path / "run") == "finished"
    assert len(table(tmp_path / "run")) == 1
    assert variables(tmp_path / "run")
    assert events(tmp_path / "run")


@pytest.mark.slow
def test_a_run_of_which_the_output_has_no_room_goes_on_and_tells_at_the_end(tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        result = subprocess.run(
            [COMMANDS / "vae-run", *SAME, "epochs=1", "figures=none", "hydra.run.dir=run"],
            **{"cwd": tmp_path, "stdout": full, "stderr": subprocess.PIPE, "text": True, "check": False},
        )
    assert result.returncode == 2, result.stderr
    assert result.stderr == (
        "vae-run: the standard output cannot be written (No space left on device): "
        "all else is done; send it elsewhere\n"
    )
    assert status(tmp_path / "run") == "finished"


def test_a_finished_run_is_given_figures_that_it_did_not_have(short_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(short_run, run)
    before = table(run)
    result = command("vae-run", "resume=run", "figures=default", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (run / "figures" / "latent_space.png").exists()
    assert table(run) == before
    assert status(run) == "finished"


@pytest.mark.slow
def test_a_second_ctrl_c_leaves_at_once_and_the_run_can_go_on(tmp_path: Path) -> None:
    process = start(*SAME, "epochs=1000", "figures=none", "hydra.run.dir=run", cwd=tmp_path)
    run = tmp_path / "run"
    wait_for(lambda: (run / "metrics.csv").exists() and len(table(run)) >= 1)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 130, stderr
    assert "Traceback" not in stderr
    done = len(table(run))
    result = command("vae-run", "resume=run", f"epochs={done + 1}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [int(row["epoch"]) for row in table(run)] == list(range(1, done + 2))


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_it_used(reference: Path, tmp_path: Path) -> None:
    result = command("vae-run", *SAME, "epochs=4", "figures=none", "hydra.run.dir=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    newest = max((tmp_path / "run" / "checkpoints").glob("step_*.npz"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)

    result = command("vae-run", "resume=run", f"epochs={EPOCHS}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert f"{newest.name} is damaged" in result.stdout
    assert "Resumed in epoch 4" in result.stdout
    assert table(tmp_path / "run") == table(reference)


@pytest.mark.slow
def test_no_room_ends_the_run_in_one_line_and_with_room_it_goes_on(reference: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    limit = 150_000  # bytes: enough for everything but a checkpoint of these networks

    def no_large_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    result = command("vae-run", *SAME, "epochs=1", "figures=none", "hydra.run.dir=run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    kept = max((run / "checkpoints").iterdir())
    assert kept.stat().st_size > limit
    before = kept.read_bytes()

    process = start("resume=run", f"epochs={EPOCHS}", cwd=tmp_path, prepare=no_large_files)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2, stderr
    assert stderr.count("\n") == 1, stderr
    assert ".npz cannot be written (File too large): make room for it; then vae-run resume=run continues it" in stderr
    assert kept.read_bytes() == before
    assert status(run) == "failed"

    result = command("vae-run", "resume=run", f"epochs={EPOCHS}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert table(run) == table(reference)


@pytest.fixture(scope="module")
def short_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("short")
    result = command("vae-run", "epochs=1", "dataset.limit=64", "figures=none", "hydra.run.dir=run", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "run"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resume=nowhere"], "nowhere does not exist"),
        (["resume=."], "has no run.json"),
        (["resume="], "resume= is empty: give a run directory"),
        (["resume=run"], "run has done epoch 1 already: to continue it, give epochs= more than 1"),
        (["resume=run", "--cfg", "job"], "the configuration of a resumed run is in it: look at run/config.yaml"),
        (["resume=run", "nonsense=3"], "there is no key 'nonsense'"),
        (["resume=run", "latent=3"], "latent=3 would change what run has done already"),
        (["resume=run", "loss=ae"], "loss=ae would change what run has done already"),
        (["resume=run", "+optimizer.clipnorm=1"], "would change what run has done already"),
        (["resume=run", "hydra.run.dir=other"], "a resumed run stays in its directory"),
        (["-m", "resume=run", "epochs=2,3"], "resume= continues one run"),
        (["resume=run", "epochs=" + "9" * 5000], "a number in these overrides has more than 4300 digits"),
        (["resume=run", "epochs=0"], "run has done epoch 1 already"),
        (["resume=run", "epochss=4"], "Did you mean 'epochs'?"),
    ],
)
def test_what_would_change_the_past_is_refused_by_name(
    arguments: list[str], message: str, short_run: Path, refusal: Callable[..., str]
) -> None:
    before = (short_run / "run.json").read_bytes()
    assert message in refusal("vae-run", *arguments, cwd=short_run.parent)
    assert (short_run / "run.json").read_bytes() == before


def test_a_configuration_changed_by_hand_since_the_checkpoint_is_named(
    short_run: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    shutil.copytree(short_run, tmp_path / "run")
    config = tmp_path / "run" / "config.yaml"
    config.write_text(config.read_text().replace("kl_weight: 1.0", "kl_weight: 2.0"))
    said = refusal("vae-run", "resume=run", "epochs=2", cwd=tmp_path)
    assert "has loss.kl_weight=2.0, but its checkpoint was made with loss.kl_weight=1.0: put that back" in said


@pytest.mark.slow
def test_a_second_process_on_a_run_directory_is_refused(tmp_path: Path) -> None:
    process = start(*SAME, "epochs=1000", "figures=none", "hydra.run.dir=run", cwd=tmp_path)
    run = tmp_path / "run"
    wait_for(lambda: (run / "metrics.csv").exists())
    result = command("vae-run", "resume=run", cwd=tmp_path)
    process.kill()
    process.communicate()
    assert result.returncode == 2, result.stderr
    assert f"is in use: process {process.pid} on " in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_questions_and_refusals_about_a_resumed_run_import_no_tensorflow(short_run: Path) -> None:
    script = (
        "import sys; sys.argv = ['vae-run', 'resume=run']\n"
        "from vae_runner.cli.commands import run\n"
        "try:\n    run()\n"
        "finally:\n    print({'tensorflow', 'keras', 'matplotlib'} & set(sys.modules))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=short_run.parent, capture_output=True, text=True, check=False
    )
    assert result.returncode == 2, result.stderr
    assert result.stdout == "set()\n"


def test_a_finished_run_that_cannot_go_on_stays_as_it_was(
    short_run: Path, tmp_path: Path, refusal: Callable[..., str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(short_run, run)
    kept = ("metrics.csv", "models/weights.npz", "models/encoder.keras")
    before = {name: (run / name).read_bytes() for name in kept}
    told = json.loads((run / "run.json").read_text())
    said = refusal("vae-run", "resume=run", "epochs=50", "checkpoint.metric=test/nope", cwd=tmp_path)
    assert "checkpoint.metric=test/nope: there is no such metric" in said
    shutil.rmtree(run / "checkpoints")
    said = refusal("vae-run", "resume=run", "epochs=50", cwd=tmp_path)
    assert "is finished, and has no checkpoint to continue from" in said
    now = json.loads((run / "run.json").read_text())
    assert {name: now[name] for name in ("status", "metrics", "epoch", "step")} == {
        name: told[name] for name in ("status", "metrics", "epoch", "step")
    }
    assert status(run) == "finished"
    assert {name: (run / name).read_bytes() for name in kept} == before


MAY_CHANGE = {"epochs", "early_stopping", "checkpoint", "figures", "evaluation", "hardware", "data_dir"}
MAY_CHANGE |= {"dataset.data_dir", "dataset.root", "dataset.url", "dataset.factors", "profile"}


def all_keys() -> list[str]:
    """Every key that any of the parts has, and the parts themselves."""
    given = [field.name for field in dataclasses.fields(CommandConfig) if field.name not in COMMAND_KEYS]
    nested = [("hardware", HardwareConfig), ("early_stopping", EarlyStoppingConfig), ("checkpoint", CheckpointConfig)]
    nested += [
        ("figures", FiguresConfig),
        ("evaluation", EvaluationConfig),
        *((c.group, c.schema) for c in registry.components() if c.group in registry.parts()),
    ]
    return sorted({*given, *(f"{part}.{field.name}" for part, cls in nested for field in dataclasses.fields(cls))})


def may_change(key: str) -> bool:
    return key in MAY_CHANGE or key.partition(".")[0] in MAY_CHANGE


@pytest.mark.parametrize("written", ["{}=3", "+{}=3", "++{}=3", "~{}"])
def test_any_key_that_would_change_the_past_is_refused_and_no_other(written: str, short_run: Path) -> None:
    assert len(all_keys()) > 80
    for key in all_keys():
        override = written.format(key)
        if may_change(key):
            rewritten([f"resume={short_run}", override])
            continue
        with pytest.raises(UserError, match=r"would change what .* has done already") as refused:
            rewritten([f"resume={short_run}", override])
        assert str(refused.value).startswith(f"{override} would")


def test_a_checkpoint_of_any_other_configuration_is_refused_but_for_the_keys_that_may_change(short_run: Path) -> None:
    config = RunDirectory(short_run).config
    for key, value in leaves(OmegaConf.to_container(config), into_lists=False):
        other = config.copy()
        OmegaConf.update(other, key, f"{value}_", force_add=True)
        if may_change(key):
            check_checkpoint_config(OmegaConf.to_container(other), OmegaConf.to_container(config), short_run)
            continue
        with pytest.raises(UserError, match=f"has {re.escape(key)}={re.escape(str(value))}_, but its checkpoint"):
            check_checkpoint_config(OmegaConf.to_container(other), OmegaConf.to_container(config), short_run)


@pytest.mark.slow
def test_a_resumed_run_counts_the_time_of_all_its_parts(reference: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(reference, run)
    before = info(run)
    result = command("vae-run", "resume=run", f"epochs={EPOCHS + 1}", "figures=none", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    after = info(run)
    assert after["started"] == before["started"]
    part = (datetime.fromisoformat(after["ended"]) - datetime.fromisoformat(after["resumed"][-1])).total_seconds()
    assert after["seconds"] == pytest.approx(before["seconds"] + part, abs=1.1)
    # Each part has prepared, traced its first step, trained and evaluated.
    for what in ("preparation", "first_step", "training", "evaluation"):
        assert after["timings"][what] > before["timings"][what] > 0, what
    with np.load(max((run / "checkpoints").iterdir())) as arrays:
        kept = json.loads(arrays["state"].tobytes())["seconds"]
    assert kept["training"] == pytest.approx(after["timings"]["training"], abs=0.01)
