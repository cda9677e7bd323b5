import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from tests.conftest import examples
from vae_runner.config.composition import content_of
from vae_runner.errors import UnwritableError, UserError
from vae_runner.storage.run_directory import RunDirectory
from vae_runner.training.checkpoints import Checkpoint
from vae_runner.training.outer import Position

KILLS = examples(10)


def test_a_second_run_in_the_same_directory_is_refused(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, OmegaConf.create()).write_info({"status": "finished"})
    with pytest.raises(UserError, match="holds a run already"):
        RunDirectory.create(tmp_path, OmegaConf.create())


def test_the_configuration_is_kept_resolved(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, content_of(OmegaConf.create({"a": 3, "b": "${a}"})))
    assert directory.config == {"a": 3, "b": 3}


def test_changes_of_an_earlier_process_that_cannot_be_removed_are_named(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, OmegaConf.create())
    (tmp_path / "git.diff").mkdir()
    with pytest.raises(UnwritableError, match=r"git\.diff cannot be written"):
        directory.save_diff("git", b"")


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_an_unfinished_run_is_refused_with_its_status_and_how_to_go_on(tmp_path: Path, status: str) -> None:
    RunDirectory.create(tmp_path, OmegaConf.create()).write_info({"status": status})
    with pytest.raises(UserError, match=f"not finished, but {status}: vae-run resume={tmp_path} continues it"):
        RunDirectory.open_finished(tmp_path)


def test_a_run_whose_process_is_gone_is_dead_and_one_that_runs_is_not(tmp_path: Path) -> None:
    directory = RunDirectory.create(tmp_path, OmegaConf.create())
    with pytest.raises(UserError, match="not finished: its status is 'running'; wait"):
        RunDirectory.open_finished(tmp_path)
    directory.release()
    assert RunDirectory(tmp_path).status == "dead"


def test_a_run_that_ends_while_it_is_looked_at_is_not_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = RunDirectory.create(tmp_path, OmegaConf.create())
    directory.release()
    monkeypatch.setattr(
        "vae_runner.storage.stored_run.is_held", lambda file: directory.write_info({"status": "finished"})
    )
    assert RunDirectory(tmp_path).status == "finished"


def test_a_run_is_continued_also_at_the_moment_in_which_a_report_looks_at_it(tmp_path: Path) -> None:
    RunDirectory.create(tmp_path, OmegaConf.create()).release()
    is_looking = threading.Event()

    def look() -> None:
        with RunDirectory(tmp_path)._lock:
            is_looking.set()
            time.sleep(0.1)

    threading.Thread(target=look).start()
    assert is_looking.wait(30)
    RunDirectory.open_to_resume(tmp_path).release()


def test_a_second_process_on_a_run_directory_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    with RunDirectory.create(tmp_path, OmegaConf.create()) as directory:
        directory.write_info({"status": "running", "process": {"pid": 123, "host": "there"}})
        with pytest.raises(UserError, match="is in use: process 123 on there runs in it"):
            RunDirectory.open_to_resume(tmp_path)
    RunDirectory.open_to_resume(tmp_path).release()


def test_a_link_out_of_a_run_directory_is_refused_and_one_within_is_not(tmp_path: Path) -> None:
    run = tmp_path / "run"
    RunDirectory.create(run, OmegaConf.create()).release()
    (run / "inside").symlink_to("config.yaml")
    RunDirectory.open(run)
    (run / "figures").symlink_to(tmp_path)
    with pytest.raises(
        UserError,
        match=r"figures is a link out of the run directory: .* a copy .*; for a larger disk, move the run directory",
    ):
        RunDirectory.open(run)


def checkpoint(epoch: int) -> bytes:
    return Checkpoint(Position(epoch), [], {}, {}, {}).to_bytes()


def test_a_damaged_checkpoint_is_named_set_aside_and_the_one_before_it_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = RunDirectory(tmp_path)
    for epoch in (1, 2, 3):
        directory.checkpoints.save(epoch, checkpoint(epoch))
    newest = tmp_path / "checkpoints" / "step_0000000003.npz"
    newest.write_bytes(newest.read_bytes()[:-100])

    found = directory.checkpoints.newest()
    assert found is not None
    assert found.position.epoch == 2
    assert f"{newest} is damaged: its content does not have the checksum" in caplog.text
    directory.checkpoints.save(4, checkpoint(4))
    directory.checkpoints.prune(1, [])
    names = sorted(file.name for file in newest.parent.iterdir())
    assert names == ["damaged.step_0000000003.npz", "step_0000000004.npz"]


def test_without_a_whole_checkpoint_there_is_none(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    assert directory.checkpoints.newest() is None
    directory.checkpoints.save(1, b"nothing")
    assert directory.checkpoints.newest() is None


def test_a_kill_at_any_moment_of_writing_leaves_a_whole_checkpoint(tmp_path: Path) -> None:
    """A process writes one checkpoint after the other and is killed at random; the newest must always be whole."""
    RunDirectory(tmp_path).checkpoints.save(0, checkpoint(1))
    (tmp_path / "content").write_bytes(
        Checkpoint(Position(1), [], {}, {}, {"encoder/0": np.random.default_rng(0).random(300_000)}).to_bytes()
    )
    script = (
        "import sys, pathlib; from vae_runner.storage.run_directory import RunDirectory\n"
        "path, first = pathlib.Path(sys.argv[1]), int(sys.argv[2])\n"
        "directory, content = RunDirectory(path), (path / 'content').read_bytes()\n"
        "print('writing', flush=True)\n"
        "for step in range(first, first + 10_000):\n"
        "    directory.checkpoints.save(step, content)\n"
        "    directory.checkpoints.prune(2, [])\n"
    )
    rng = np.random.default_rng()
    first = 1
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, "-c", script, tmp_path, str(first)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.random() * 0.2)
        process.kill()
        process.communicate()
        steps = sorted(int(file.stem[5:]) for file in (tmp_path / "checkpoints").glob("step_*.npz"))
        assert RunDirectory(tmp_path).checkpoints.newest() is not None
        assert not list((tmp_path / "checkpoints").glob("damaged*"))
        first = steps[-1] + 1
    assert first > KILLS  # it did write


def test_what_is_no_run_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path, message in [("nowhere", "does not exist"), ("file", "is no directory"), (".", "has no run.json")]:
        with pytest.raises(UserError, match=message):
            RunDirectory.open_finished(tmp_path / path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'"text"'])
def test_a_damaged_run_json_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(UserError, match=r"run\.json .* damaged"):
        RunDirectory.open_finished(tmp_path)


@pytest.mark.parametrize("content", [b"a: [", b"\xff\xfe\xff", b"- 1", b"a: ${"])
def test_a_damaged_configuration_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"config\.yaml .* damaged"):
        _ = RunDirectory(tmp_path).config


def test_arrays_come_back_as_they_were(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    directory.save_arrays("x", {"a": np.arange(5), "names": np.array(["ü", "b"])})
    loaded = directory.load_arrays("x")
    np.testing.assert_array_equal(loaded["a"], np.arange(5))
    assert loaded["names"].tolist() == ["ü", "b"]


@pytest.mark.parametrize("others", [{}, {"scale": np.ones((3, 2, 2), np.float32)}], ids=["", "of an older version"])
def test_embeddings_are_means_and_labels_whatever_else_is_beside_them(
    tmp_path: Path, others: dict[str, np.ndarray]
) -> None:
    directory, mean = RunDirectory(tmp_path), np.arange(6, dtype=np.float32).reshape(3, 2)
    directory.save_arrays("embeddings", {"mean": mean, "labels": np.arange(3), **others})
    found, labels = directory.embeddings
    np.testing.assert_array_equal(found, mean)
    np.testing.assert_array_equal(labels, np.arange(3))


def test_a_pickle_among_the_arrays_is_refused(tmp_path: Path) -> None:
    (tmp_path / "evaluation").mkdir()
    np.savez(tmp_path / "evaluation" / "x.npz", a=np.array([{"an": "object"}], dtype=object))
    with pytest.raises(UserError, match="damaged"):
        RunDirectory(tmp_path).load_arrays("x")
