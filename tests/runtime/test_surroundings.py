"""What run.json says of code, packages and machine; and that nothing of it costs a run anything."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from vae_runner.runtime import surroundings
from vae_runner.runtime.surroundings import Surroundings, packages, processor

HERE = "checkout"


def git(*arguments: str, cwd: Path) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    return subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout with one commit, in a folder of which we are."""
    path = tmp_path / HERE
    (path / "inside").mkdir(parents=True)
    (path / "mine.py").write_text("x = 1\n")
    git("init", "-q", ".", cwd=path)
    git("add", ".", cwd=path)
    git("commit", "-q", "-m", "first", cwd=path)
    monkeypatch.chdir(path / "inside")
    return path


def test_no_program_that_a_repository_names_is_run(checkout: Path, tmp_path: Path) -> None:
    nested = checkout / "nested"  # as a submodule has settings and filters of its own
    nested.mkdir()
    (nested / "mine.py").write_text("y = 1\n")
    (nested / ".gitattributes").write_text("* filter=theirs\n")
    git("init", "-q", ".", cwd=nested)
    git("add", ".", cwd=nested)
    git("commit", "-q", "-m", "first", cwd=nested)
    git("add", "nested", cwd=checkout)
    (checkout / ".gitattributes").write_text("* filter=own diff=own\n")
    for key in ("filter.own.clean", "filter.own.process", "diff.own.command", "diff.own.textconv", "core.fsmonitor"):
        git("config", key, f"touch {tmp_path}/run", cwd=checkout)
    git("config", "filter.own.required", "true", cwd=checkout)
    git("config", "diff.submodule", "diff", cwd=checkout)
    git("config", "filter.theirs.clean", f"touch {tmp_path}/run", cwd=nested)
    for path in (checkout, nested):
        (path / "mine.py").write_text("x = 2\n")
    kept: dict[str, bytes] = {}
    with Surroundings(kept.__setitem__) as found:
        answered(found)
    assert b"+x = 2" in kept["git"]
    assert not (tmp_path / "run").exists()


def test_a_repository_whose_filter_no_option_of_git_switches_off_is_not_asked(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".gitattributes").write_text("* filter=a=b\n")
    git("config", "filter.a=b.clean", f"touch {tmp_path}/run", cwd=checkout)
    (checkout / "mine.py").write_text("x = 2\n")
    with Surroundings(lambda name, changes: None) as found:
        found.wait()
        assert found.entries()["git"] is None
    assert not (tmp_path / "run").exists()


def test_a_run_directory_is_data_and_no_checkout(checkout: Path) -> None:
    (checkout / "run.json").write_text("{}")
    with Surroundings(lambda name, changes: None) as found:
        time.sleep(0.2)
        assert found.entries()["git"] is None


def answered(found: Surroundings, seconds: float = 30) -> dict[str, object]:
    """What is known once git has answered."""
    deadline = time.monotonic() + seconds
    while found.entries()["git"] is None:
        assert time.monotonic() < deadline, "git did not answer"
        time.sleep(0.01)
    return dict(found.entries())


def test_the_commit_is_that_of_the_working_directory_and_changes_are_kept_so_that_git_takes_them(
    checkout: Path, tmp_path: Path
) -> None:
    commit = git("rev-parse", "HEAD", cwd=checkout).strip()
    kept: dict[str, bytes] = {}
    with Surroundings(kept.__setitem__) as found:
        clean = answered(found)["git"]
    assert clean == {"commit": commit, "dirty": False, "diff": None, "diff_sha256": None}
    assert kept["git"] == b""

    (checkout / "mine.py").write_text("x = 2\n")
    (checkout / "untracked").write_text("outputs are no changes")
    git("config", "diff.noprefix", "true", cwd=checkout)
    with Surroundings(kept.__setitem__) as found:
        changed = answered(found)["git"]
    assert changed == {**clean, "dirty": True, "diff": "git.diff", "diff_sha256": changed["diff_sha256"]}  # type: ignore[dict-item,index]
    git("config", "diff.noprefix", "false", cwd=checkout)
    git("checkout", "-q", ".", cwd=checkout)
    (tmp_path / "kept.diff").write_bytes(kept["git"])
    git("apply", str(tmp_path / "kept.diff"), cwd=checkout)
    assert (checkout / "mine.py").read_text() == "x = 2\n"


def test_of_more_changes_than_are_kept_it_is_said_that_there_are_some(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "MAX_DIFF", 100)
    (checkout / "mine.py").write_text("x = 2\n" * 1000)
    kept: dict[str, bytes] = {}
    with Surroundings(kept.__setitem__) as found:
        entry = answered(found)["git"]
    assert isinstance(entry, dict)
    assert (entry["dirty"], entry["diff"]) == (True, None)
    assert kept["git"] == b""


def hanging(folder: Path) -> None:
    (folder / "git").write_text(f"#!/bin/sh\necho $$ > {folder}/pid\nexec sleep 1000\n")


def test_a_run_that_is_over_before_git_has_answered_waits_a_little_for_it(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "git"
    slow.write_text('#!/bin/sh\nsleep 0.1\nexec git "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(surroundings, "GIT", (str(slow),))
    with Surroundings(lambda name, changes: None) as found:
        assert found.entries()["git"] is None
        found.wait()
        assert found.entries()["git"] is not None


def test_a_git_that_hangs_is_waited_for_by_the_first_run_of_a_process_alone(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging(tmp_path)
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setattr(surroundings, "GIT", (str(tmp_path / "git"),))
    monkeypatch.setattr(surroundings, "SECONDS_MORE", 0.2)
    monkeypatch.setattr(Surroundings, "_too_slow", set())
    waits = []
    for _ in range(2):
        with Surroundings(lambda name, changes: None) as found:
            start = time.monotonic()
            found.wait()
            waits.append(time.monotonic() - start)
    assert waits[1] < 0.2 <= waits[0]


def refusing(folder: Path) -> None:
    (folder / "git").write_text("#!/bin/sh\necho fatal: detected dubious ownership in repository >&2\nexit 128\n")


def missing(folder: Path) -> None:
    """No git is there."""


@pytest.mark.parametrize("make", [hanging, refusing, missing])
def test_a_git_that_hangs_refuses_or_is_missing_costs_nothing(
    make: Callable[[Path], None], checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    make(programs)
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/bin" if make is hanging else str(programs))
    if make is hanging:
        monkeypatch.setattr(surroundings, "GIT", (str(programs / "git"),))
    kept: dict[str, bytes] = {}
    start = time.monotonic()
    with Surroundings(kept.__setitem__) as found:
        assert found.entries()["git"] is None
        if make is hanging:
            while not (programs / "pid").exists() or not (programs / "pid").read_text().strip():
                assert time.monotonic() < start + 30
                time.sleep(0.01)
        begun = time.monotonic()
        assert found.entries()["git"] is None
    assert time.monotonic() - begun < 1
    assert not kept
    if make is hanging:
        pid = int((programs / "pid").read_text())
        while Path(f"/proc/{pid}").exists():  # It is ended with the run.
            assert time.monotonic() < start + 30
            time.sleep(0.01)


def test_where_there_is_no_checkout_the_key_is_there_and_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Surroundings(lambda name, changes: None) as found:
        assert found.entries()["git"] is None


def test_all_packages_are_named_as_importlib_has_them_and_cost_a_start_less_than_a_tenth_of_a_second() -> None:
    packages.cache_clear()
    start = time.process_time()
    found = packages()
    seconds = time.process_time() - start
    expected: dict[str, str] = {}
    for package in metadata.distributions():
        expected.setdefault(package.metadata["Name"], package.version)
    names = [package.split("==")[0] for package in found.split()]
    assert dict(package.split("==") for package in found.split()) == expected
    assert names == sorted(names, key=str.lower)
    assert "tensorflow" in names
    assert seconds < 0.1


def test_a_package_that_cannot_be_read_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, author in (("broken", b"\xe9"), ("sound", b"e")):
        (tmp_path / f"{name}-1.dist-info").mkdir()
        (tmp_path / f"{name}-1.dist-info" / "METADATA").write_bytes(
            b"Name: %b\nVersion: 1\nAuthor: %b\n" % (name.encode(), author)
        )
    monkeypatch.syspath_prepend(tmp_path)
    packages.cache_clear()
    found = packages().split()
    packages.cache_clear()
    assert "sound==1" in found
    assert "broken==1" not in found


def test_the_processor_is_named_with_its_flags() -> None:
    model, flags = processor()
    listed = Path("/proc/cpuinfo").read_text()
    assert model in listed or model == os.uname().machine
    assert flags in listed


def test_no_environment_variable_is_written(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "s3cr3t-t0ken")
    with Surroundings(lambda name, changes: None) as found:
        assert "s3cr3t-t0ken" not in json.dumps(answered(found))
