"""What the presets of launchers promise, each with the real thing."""

import json
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.test_resume import start, table, wait_for
from tests.cli.test_sweep import SMALL, children, rows, states
from tests.conftest import COMMANDS, command

pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra 'sweep'")


def processes(folder: Path) -> list[dict[str, str | None]]:
    """What the processes that runs were in have told."""
    return [json.loads(file.read_text()) for file in folder.glob("process_*.json")]


# --- several processes on this machine --------------------------------------------------------------------------------


def test_joblib_shares_cores_and_gpus_out_among_its_processes(mine: Path) -> None:
    arguments = ("--config-dir", "conf", "-m", "seed=0,1,2,3", "loss=mine", *SMALL, "hydra/launcher=joblib")
    environment = {"PYTHONPATH": str(mine), "CUDA_VISIBLE_DEVICES": "0,1,2"}
    result = command("vae-run", *arguments, "sweep.dir=sweep", cwd=mine, **environment)
    assert result.returncode == 0, result.stderr
    assert states(mine / "sweep") == {"finished": 4}
    told = processes(mine)
    assert len(told) == 2
    threads = max(len(os.sched_getaffinity(0)) // 2, 1)
    assert {process["TF_NUM_INTRAOP_THREADS"] for process in told} == {str(threads)}
    assert sorted(str(process["CUDA_VISIBLE_DEVICES"]) for process in told) == ["0,2", "1"]


@pytest.mark.slow
def test_joblib_loses_one_run_with_a_process(mine: Path) -> None:
    arguments = ("--config-dir", "conf", "-m", "loss=mine", "loss.behaviour=a,dies,fails,b", *SMALL)
    more = ("hydra/launcher=joblib", "sweep.dir=sweep")
    result = command("vae-run", *arguments, *more, cwd=mine, PYTHONPATH=str(mine))
    assert result.returncode == 2, result.stdout
    found = {row["loss.behaviour"]: (row["status"], row["error"]) for row in rows(mine / "sweep")}
    assert found == {
        "a": ("finished", ""),
        "b": ("finished", ""),
        "dies": ("failed", "the process died with a process of its launcher"),
        "fails": ("failed", "RuntimeError: a fault of mine"),
    }, result.stdout


@pytest.mark.slow
def test_joblibs_runs_go_on_when_nobody_reads_what_they_say_any_more(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [COMMANDS / "vae-run", "-m", "seed=0,1", *SMALL, "hydra/launcher=joblib", "sweep.dir=sweep"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    while "Device: " not in process.stdout.readline():
        assert process.poll() is None
    process.stdout.close()
    assert process.wait(120) == 0
    assert states(tmp_path / "sweep") == {"finished": 2}


def wait_until_two_run(process: subprocess.Popen[str], sweep: Path) -> None:
    """Until two runs of a sweep have a checkpoint, which the process is not to end before."""
    wait_for(lambda: len(list(sweep.glob("*/checkpoints"))) == 2 or process.poll() is not None)
    assert process.poll() is None


def wait_until_two_go_on(process: subprocess.Popen[str], sweep: Path) -> None:
    """Until two runs of a sweep are under way, which have been before."""
    wait_for(lambda: states(sweep)["running"] == 2 or process.poll() is not None)
    assert process.poll() is None


def end(process: subprocess.Popen[str], number: int, *, launcher: bool = False, times: int = 1) -> int:
    """Send it a signal, or the process alone that launches its runs; what it says must be that it can go on."""
    (launching,) = children(process)
    target = launching if launcher else process.pid
    for _ in range(times):
        if Path(f"/proc/{target}").exists():  # which it may have ended before
            os.kill(target, number)
        time.sleep(0.3)
    _, stderr = process.communicate(timeout=30)
    said = [line for line in stderr.splitlines() if not re.match(r"\S+ \S+\t(INFO|WARNING) ", line)]  # Ray's
    assert len(said) == 1
    line = r"vae-run: interrupted( \(\d+ not begun\))?: the same command with sweep\.dir=sweep continues it"
    assert re.fullmatch(line, said[0])
    return process.returncode


def kill_launcher(process: subprocess.Popen[str]) -> int:
    (launcher,) = children(process)
    os.kill(launcher, signal.SIGKILL)
    return process.wait(120)


@pytest.mark.slow
def test_joblib_lets_all_its_runs_write_checkpoints_on_ctrl_c(tmp_path: Path) -> None:
    arguments = ("-m", "seed=0,1,2", *SMALL, "epochs=150", "hydra/launcher=joblib", "sweep.dir=sweep")
    process = start(*arguments, cwd=tmp_path)
    wait_until_two_run(process, tmp_path / "sweep")
    assert end(process, signal.SIGINT) == 130
    assert states(tmp_path / "sweep") == {"interrupted": 2}
    assert len(list(tmp_path.glob("sweep/*/"))) == 2  # nothing of the third
    for run in tmp_path.glob("sweep/*/run.json"):
        info = json.loads(run.read_text())
        newest = max(run.parent.glob("checkpoints/step_*.npz")).name
        assert int(re.findall(r"\d+", newest)[0]) >= info["step"]

    process = start(*arguments, cwd=tmp_path)
    wait_until_two_go_on(process, tmp_path / "sweep")
    assert end(process, signal.SIGINT, launcher=True, times=3) == 130

    result = command("vae-run", *arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert states(tmp_path / "sweep") == {"finished": 3}
    assert {len(table(run.parent)) for run in tmp_path.glob("sweep/*/run.json")} == {150}


@pytest.mark.slow
def test_what_a_killed_launcher_leaves_running_is_ended_and_done_again(tmp_path: Path) -> None:
    arguments = ("-m", "seed=0,1,2", *SMALL, "epochs=100", "hydra/launcher=joblib", "sweep.dir=sweep")
    process = start(*arguments, cwd=tmp_path)
    wait_until_two_run(process, tmp_path / "sweep")
    assert kill_launcher(process) == 0
    assert states(tmp_path / "sweep") == {"finished": 3}


# --- SLURM, through submitit's executor for the machine it is on ------------------------------------------------------


@pytest.mark.slow
def test_a_preempted_job_is_queued_again_and_goes_on_where_it_was(tmp_path: Path) -> None:
    small = ("-m", "seed=0,1", *SMALL, "epochs=150", "hardware.deterministic=true")
    result = command("vae-run", *small, "sweep.dir=reference", cwd=tmp_path)
    assert result.returncode == 0, result.stderr

    local = (*small, "hydra/launcher=submitit_local", "sweep.dir=sweep")
    process = start(*local, cwd=tmp_path)
    wait_until_two_run(process, tmp_path / "sweep")
    assert end(process, signal.SIGTERM, launcher=True) == 143
    assert states(tmp_path / "sweep") == {"interrupted": 2}
    assert not list(tmp_path.glob("sweep/.submitit/*%*"))

    process = start(*local, cwd=tmp_path)
    wait_until_two_go_on(process, tmp_path / "sweep")
    preempted = next(tmp_path.glob("sweep/seed_0-*/run.json"))
    os.kill(json.loads(preempted.read_text())["process"]["pid"], signal.SIGUSR2)
    assert process.wait(120) == 0
    assert states(tmp_path / "sweep") == {"finished": 2}
    assert len(json.loads(preempted.read_text())["resumed"]) == 2
    for run in tmp_path.glob("sweep/*/run.json"):
        assert table(run.parent) == table(tmp_path / "reference" / run.parent.name)


SLURM = '''\
#!{python}
"""A SLURM cluster of this machine alone: sbatch, srun, sacct and scontrol."""
import os, re, subprocess, sys
from pathlib import Path
name, arguments, cluster = Path(sys.argv[0]).name, sys.argv[1:], Path(__file__).parent
def begin(number):
    script = cluster / "script"
    environment = dict(
        os.environ, SLURM_JOB_ID=f"7{{number}}", SLURM_ARRAY_JOB_ID="7", SLURM_ARRAY_TASK_ID=str(number),
        SLURM_JOB_NUM_NODES="1", SLURM_NTASKS="1", SLURM_PROCID="0", SLURM_LOCALID="0", SLURM_NODEID="0",
        SLURM_JOB_NODELIST="here",
    )
    subprocess.Popen(["bash", script], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
if name == "sbatch":
    text = Path(arguments[-1]).read_text()
    (cluster / "script").write_text(text)
    for number in range(int(re.search(r"--array=0-(\\d+)", text)[1]) + 1):
        begin(number)
    print("Submitted batch job 7")
elif name == "srun":
    command = arguments[next(i for i, word in enumerate(arguments) if "python" in word):]
    (cluster / f"running_{{os.environ['SLURM_ARRAY_TASK_ID']}}").write_text(str(os.getpid()))
    os.execv(command[0], command)
elif name == "scontrol":
    (cluster / "requeued").write_text(" ".join(arguments))
    begin(arguments[-1].partition("_")[2])
elif name == "sacct":
    print("JobID|State|NodeList")
    for file in cluster.glob("running_*"):
        print(f"7_{{file.name[8:]}}|RUNNING|here")
'''


def test_the_slurm_preset_asks_for_what_it_says_and_its_preempted_jobs_go_on(tmp_path: Path) -> None:
    cluster = tmp_path / "cluster"
    cluster.mkdir()
    for name in ("sbatch", "srun", "scontrol", "sacct"):
        (cluster / name).write_text(SLURM.format(python=sys.executable))
        (cluster / name).chmod(0o755)
    arguments = ("-m", "seed=0,1", *SMALL, "epochs=150", "hydra/launcher=slurm", "hydra.launcher.cpus_per_task=1")
    environment = {**os.environ, "PATH": f"{cluster}:{os.environ['PATH']}", "VAE_RUNNER_DATA": str(tmp_path)}
    process = subprocess.Popen(
        [COMMANDS / "vae-run", *arguments, "sweep.dir=sweep"], cwd=tmp_path, env=environment, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    wait_until_two_run(process, tmp_path / "sweep")
    preempted = next(tmp_path.glob("sweep/seed_0-*/run.json"))
    os.kill(json.loads(preempted.read_text())["process"]["pid"], signal.SIGUSR2)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert (cluster / "requeued").read_text() == "requeue 7_0"
    assert len(json.loads(preempted.read_text())["resumed"]) == 1
    assert states(tmp_path / "sweep") == {"finished": 2}
    script = (cluster / "script").read_text()
    for line in ("--time=1440", "--cpus-per-task=1", "--array=0-1%2", "--signal=USR2@120"):
        assert f"#SBATCH {line}\n" in script


# --- Ray --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ray_cluster(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray cluster of two cores on this machine."""
    pytest.importorskip("ray", reason="needs the extra 'sweep'")
    folder = tmp_path_factory.mktemp("ray")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with (folder / "log").open("w") as log:
        head = subprocess.Popen(
            [COMMANDS / "ray", "start", "--head", "--block", "--node-ip-address=127.0.0.1", f"--port={port}",
             "--include-dashboard=false", "--num-cpus=2", "--disable-usage-stats"],
            cwd=folder, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_for(lambda: "Ray runtime started" in (folder / "log").read_text(), 60)
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait(60)


@pytest.mark.parametrize("scheme", ["", pytest.param("ray://", marks=pytest.mark.slow)])
def test_a_ray_address_that_nobody_answers_is_refused(scheme: str, mine: Path, refusal: Callable[..., str]) -> None:
    pytest.importorskip("ray", reason="needs the extra 'sweep'")
    with socket.socket() as bound:  # and not listening
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        said = refusal(
            *("vae-run", "-m", "seed=0,1", *SMALL, "hydra/launcher=ray", "sweep.dir=sweep"),
            f"hydra.launcher.ray.init.address={scheme}{address}",
            cwd=mine,
        )
    assert f"hydra.launcher.ray.init.address: no Ray cluster answers at {address}" in said
    assert not (mine / "sweep").exists()


@pytest.mark.slow
def test_a_ray_address_at_which_something_else_answers_is_refused_within_a_minute(mine: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra 'sweep'")
    with socket.create_server(("127.0.0.1", 0)) as other:  # accepts, and says nothing
        address = f"127.0.0.1:{other.getsockname()[1]}"
        result = command(
            *("vae-run", "-m", "seed=0,1", *SMALL, "hydra/launcher=ray", "sweep.dir=sweep"),
            f"hydra.launcher.ray.init.address={address}",
            cwd=mine,
        )
    assert result.returncode == 2, result.stderr
    assert f"hydra.launcher.ray.init.address: no Ray cluster answers at {address}" in result.stderr.splitlines()[-1]
    assert not (mine / "sweep").exists()


@pytest.mark.slow
def test_ray_runs_a_sweep_on_a_cluster_and_begins_a_lost_run_again(mine: Path, ray_cluster: str) -> None:
    arguments = ("-m", "seed=0,1,2", *SMALL, "epochs=100", "hydra/launcher=ray", "sweep.dir=sweep")
    process = start(*arguments, f"hydra.launcher.ray.init.address={ray_cluster}", cwd=mine)
    wait_until_two_run(process, mine / "sweep")
    lost = next(mine.glob("sweep/*/checkpoints")).with_name("run.json")
    os.kill(json.loads(lost.read_text())["process"]["pid"], signal.SIGKILL)
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 0, stderr
    assert states(mine / "sweep") == {"finished": 3}
    assert len(json.loads(lost.read_text())["resumed"]) == 1


@pytest.mark.slow
def test_ray_lets_all_its_runs_write_checkpoints_on_ctrl_c_and_sigterm(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra 'sweep'")
    arguments = ("-m", "seed=0,1,2", *SMALL, "epochs=10000", "hydra/launcher=ray", "sweep.dir=sweep")
    for number, launcher in ((signal.SIGINT, False), (signal.SIGTERM, True)):
        process = start(*arguments, "+hydra.launcher.ray.init.num_cpus=2", cwd=tmp_path)
        wait_until_two_go_on(process, tmp_path / "sweep")
        wait_until_two_run(process, tmp_path / "sweep")
        assert end(process, number, launcher=launcher) == 128 + number
        assert set(states(tmp_path / "sweep")) == {"interrupted"}
