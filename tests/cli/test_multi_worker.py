"""One run over several processes on loopback, as over several machines."""

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_resume import Started, start, status, table, variables, wait_for
from tests.conftest import command, mostly_slow
from tests.datasets.conftest import write_numbered

SMALL = ("dataset.limit=200", "model.filters=4", "batch_size=32", "figures=none", "hardware.deterministic=true")
METRICS = ("train/loss", "train/kl", "test/loss", "test/kl")


def addresses(count: int) -> list[str]:
    """Free ones on loopback."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for free in sockets:
            free.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{free.getsockname()[1]}" for free in sockets]


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Callable[..., list[Started]]]:
    """Starts the same command as so many workers: the chief in `tmp_path`, the others in folders of their own in it."""
    started: list[Started] = []

    def begin(count: int, *arguments: str) -> list[Started]:
        workers = f"hardware.workers=[{','.join(addresses(count))}]"
        for number in range(count):
            folder = tmp_path / f"worker_{number}" if number else tmp_path
            folder.mkdir(exist_ok=True)
            own = ("hardware=multi_worker", workers, f"hardware.worker={number}", "hardware.intra_op_threads=1")
            started.append(start(*arguments, *own, cwd=folder))
        return started[-count:]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ends(processes: list[Started], seconds: float = 120) -> list[tuple[int, str]]:
    """The exit status of each, and what it said on standard error."""
    said = [process.communicate(timeout=seconds)[1] for process in processes]
    return [(process.returncode, text) for process, text in zip(processes, said, strict=True)]


def alone(folder: Path, *arguments: str) -> Path:
    """The same run on one machine."""
    result = command("vae-run", *arguments, "hydra.run.dir=alone", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder / "alone"


def assert_close(run: Path, reference: Path) -> None:
    """They computed the same, within float32 rounding."""
    for ours, theirs in zip(table(run), table(reference), strict=True):
        for name in METRICS:
            assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=2e-3)
    ours, theirs = variables(run), variables(reference)
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=2e-2, atol=3e-4, err_msg=name)


def test_two_machines_compute_what_one_computes_and_only_the_first_writes(
    machines: Callable[..., list[Started]], tmp_path: Path
) -> None:
    arguments = (*SMALL, "epochs=2")
    assert ends(machines(2, *arguments, "hydra.run.dir=run")) == [(0, ""), (0, "")]
    assert_close(tmp_path / "run", alone(tmp_path, *arguments))
    hardware = json.loads((tmp_path / "run" / "run.json").read_text())["hardware"]
    assert hardware["replicas"] == len(hardware["workers"]) == 2
    assert (tmp_path / "worker_1").is_dir()
    assert not list((tmp_path / "worker_1").iterdir())


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_run_on_the_others_and_it_goes_on_with_fewer(
    machines: Callable[..., list[Started]], tmp_path: Path
) -> None:
    processes = machines(3, *SMALL, "batch_size=33", "epochs=400", "hydra.run.dir=run")
    wait_for(lambda: len(list(tmp_path.glob("run/checkpoints/*"))) == 2 or processes[0].poll() is not None)
    processes[1].kill()
    killed = time.monotonic()
    (chief, said), _, (other, also_said) = ends(processes, 60)
    assert time.monotonic() - killed < 60
    assert chief == other == 2, (said, also_said)
    chiefs = "vae-run resume=run continues it, with hardware=auto also on one machine"
    for text, goes_on in ((said, chiefs), (also_said, "the first machine says how to continue it")):
        assert re.fullmatch(rf"vae-run: 127\.0\.0\.1:\d+ is gone, and this run with it: {goes_on}\n", text)
    assert status(tmp_path / "run") == "failed"

    done = len(table(tmp_path / "run"))
    result = command("vae-run", "resume=run", f"epochs={done + 2}", "hardware=auto", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert [int(row["epoch"]) for row in table(tmp_path / "run")] == list(range(1, done + 3))


@pytest.mark.slow
@pytest.mark.parametrize(("to", "number"), [(0, signal.SIGINT), (1, signal.SIGTERM)])
def test_a_signal_to_any_machine_ends_all_of_them_in_a_checkpoint_and_another_number_of_machines_goes_on(
    machines: Callable[..., list[Started]], to: int, number: signal.Signals, tmp_path: Path
) -> None:
    processes = machines(2, *SMALL, "epochs=1000", "hydra.run.dir=run")
    wait_for(lambda: list(tmp_path.glob("run/checkpoints/*")))
    processes[to].send_signal(number)
    told = time.monotonic()
    (chief, said), (other, also_said) = ends(processes, 20)
    assert chief == other == 128 + number
    assert re.fullmatch(
        r"vae-run: interrupted at step \d+: vae-run resume=run continues it, with hardware=auto also on one machine\n",
        said,
    )
    assert re.fullmatch(r"vae-run: interrupted at step \d+: the first machine says how to continue it\n", also_said)
    assert time.monotonic() - told < 10
    assert status(tmp_path / "run") == "interrupted"

    epochs = f"epochs={len(table(tmp_path / 'run')) + 1}"
    others = machines(4, f"resume={tmp_path / 'run'}", epochs)
    assert [code for code, _ in ends(others)] == [0, 0, 0, 0]
    assert status(tmp_path / "run") == "finished"
    assert_close(tmp_path / "run", alone(tmp_path, *SMALL, epochs))


@pytest.mark.parametrize("other", mostly_slow(["seed=5", "latent=3", "dataset.limit=100"]))
def test_machines_with_other_commands_or_images_are_refused_on_all_of_them(other: str, tmp_path: Path) -> None:
    both = addresses(2)
    common = ("hardware=multi_worker", f"hardware.workers=[{','.join(both)}]", *SMALL)
    (tmp_path / "other").mkdir()
    first = start(*common, "hardware.worker=0", "hydra.run.dir=run", cwd=tmp_path)
    second = start(*common, "hardware.worker=1", other, cwd=tmp_path / "other")
    for code, said in ends([first, second]):
        assert code == 2, said
        assert "the machines of this run were started differently" in said
        assert len(said.splitlines()) == 1


@pytest.mark.slow
def test_machines_may_have_the_same_images_elsewhere_and_not_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        pictures = write_numbered(tmp_path / name / "photos", 20)

    def both(*more: str) -> list[tuple[int, str]]:
        common = (
            *("dataset=folder", "dataset.root=photos", "dataset.image_size=8", "epochs=1", "batch_size=8"),
            *("model.filters=4", "figures=none", "hardware=multi_worker"),
            *(f"hardware.workers=[{','.join(addresses(2))}]", *more),
        )
        return ends([start(*common, f"hardware.worker={i}", cwd=tmp_path / name) for i, name in enumerate(("a", "b"))])

    assert both("hydra.run.dir=run") == [(0, ""), (0, "")]
    shutil.copyfile(pictures[0], pictures[1])  # the same number
    for code, said in both("hydra.run.dir=other"):
        assert code == 2, said
        assert "the machines of this run were started differently" in said


def test_a_signal_is_heard_while_others_are_waited_for(tmp_path: Path) -> None:
    workers = f"hardware.workers=[{','.join(addresses(2))}]"
    process = start("hardware=multi_worker", workers, "hardware.worker=0", "hydra.run.dir=run", cwd=tmp_path)
    wait_for(lambda: "Waiting for 127.0.0.1" in (tmp_path / "run" / "vae-run.log").read_text()
             if (tmp_path / "run" / "vae-run.log").exists() else False)  # fmt: skip
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=10)
    assert process.returncode == 143, stderr


def test_an_address_in_use_is_refused(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        own = f"127.0.0.1:{taken.getsockname()[1]}"
        workers = f"hardware.workers=[{own},{addresses(1)[0]}]"
        result = command("vae-run", "hardware=multi_worker", workers, "hardware.worker=0", cwd=tmp_path)
    assert result.returncode == 2, result.stderr
    assert f"cannot listen at {own}" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert os.environ.get("TF_CONFIG") is None


@pytest.mark.slow
def test_logical_devices_make_the_same_run(tmp_path: Path) -> None:
    arguments = (*SMALL, "batch_size=30", "epochs=2")
    more = ("hardware=mirrored", "hardware.logical_cpus=3", "hydra.run.dir=run")
    result = command("vae-run", *arguments, *more, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "3 replicas, 10 images each" in result.stdout
    assert_close(tmp_path / "run", alone(tmp_path, *arguments))
