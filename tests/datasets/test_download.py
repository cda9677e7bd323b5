import io
import logging
import os
import random
import socket
import subprocess
import sys
import tarfile
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.datasets.conftest import FileServer, full_disk, refused, tree
from vae_runner.datasets import download as download_module
from vae_runner.datasets.download import ATTEMPTS, BLOCK, download, one_process, unpack

CONTENT = random.Random(0).randbytes(3 * BLOCK + 12_345)
ADVICE = "or use dataset=digits, which needs no download"


def fetch(url: str, target: Path, check: Callable[[Path], str | None] = lambda _: None) -> None:
    download(url, target, check, ADVICE)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "data" / "file.gz"


@pytest.fixture
def url(server: FileServer) -> str:
    server.files["/file.gz"] = CONTENT
    return f"{server.url}/file.gz"


def test_a_file_arrives_whole_and_alone(url: str, target: Path, server: FileServer) -> None:
    seen = []

    def check(path: Path) -> None:
        seen.append((path.read_bytes(), target.exists()))

    fetch(url, target, check)
    assert target.read_bytes() == CONTENT
    assert seen == [(CONTENT, False)]
    assert tree(target.parent) == {"file.gz"}
    assert len(server.requests) == 1


@pytest.mark.parametrize("breaks", [1, 2, ATTEMPTS - 1])
def test_a_broken_transfer_is_resumed_where_it_broke(url: str, target: Path, server: FileServer, breaks: int) -> None:
    server.breaks = breaks
    fetch(url, target)
    expected, have = [None], 0
    for _ in range(breaks):
        have += (len(CONTENT) - have) // 2
        expected.append(f"bytes={have}-")
    assert [request.range for request in server.requests] == expected
    assert target.read_bytes() == CONTENT
    assert tree(target.parent) == {"file.gz"}


def test_a_connection_reset_half_way_does_not_end_the_download(url: str, target: Path, server: FileServer) -> None:
    server.breaks, server.resets = 2, True
    fetch(url, target)
    assert len(server.requests) == 3
    assert target.read_bytes() == CONTENT


def test_a_server_that_ignores_ranges_is_asked_for_all_again(url: str, target: Path, server: FileServer) -> None:
    server.breaks, server.ranges = 1, False
    fetch(url, target)
    assert [request.range for request in server.requests] == [None, f"bytes={len(CONTENT) // 2}-"]
    assert target.read_bytes() == CONTENT


def test_what_an_earlier_process_left_is_resumed(url: str, target: Path, server: FileServer) -> None:
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(CONTENT[:1000])
    fetch(url, target)
    assert [request.range for request in server.requests] == ["bytes=1000-"]
    assert target.read_bytes() == CONTENT
    assert tree(target.parent) == {"file.gz"}


def no_zeros(path: Path) -> str | None:
    return None if any(path.read_bytes()) else "is all zeros"


@pytest.mark.parametrize("excess", [0, 1])
def test_a_leftover_of_another_file_as_long_or_longer_is_thrown_away(
    url: str, target: Path, server: FileServer, excess: int
) -> None:
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(bytes(len(CONTENT) + excess))
    fetch(url, target, no_zeros)
    assert [request.range for request in server.requests] == [f"bytes={len(CONTENT) + excess}-", None]
    assert target.read_bytes() == CONTENT


def test_a_leftover_that_goes_on_after_the_end_of_the_file_is_thrown_away(
    url: str, target: Path, server: FileServer
) -> None:
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(CONTENT + b"x")
    fetch(url, target)
    assert target.read_bytes() == CONTENT


def test_a_leftover_that_is_whole_is_not_fetched_again(url: str, target: Path, server: FileServer) -> None:
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(CONTENT)
    fetch(url, target, no_zeros)
    assert [request.range for request in server.requests] == [f"bytes={len(CONTENT)}-"]
    assert target.read_bytes() == CONTENT
    assert tree(target.parent) == {"file.gz"}


DOWNLOAD = """
import sys, pathlib
from vae_runner.datasets.download import download
download(sys.argv[1], pathlib.Path(sys.argv[2]), lambda _: None, "")
"""


def test_of_several_processes_one_fetches_the_file(url: str, target: Path, server: FileServer) -> None:
    server.breaks = 2  # while the first goes on where it broke off, the others are there
    processes = [subprocess.Popen([sys.executable, "-c", DOWNLOAD, url, str(target)]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert target.read_bytes() == CONTENT
    assert tree(target.parent) == {"file.gz"}
    assert len(server.requests) == 3


def test_who_waits_for_another_process_is_told_and_finds_its_file(
    url: str, target: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(download_module, "PATIENCE", 0.05)
    with caplog.at_level(logging.INFO), ThreadPoolExecutor(1) as pool:
        with one_process(target):
            waiting = pool.submit(fetch, url, target)
            until = time.monotonic() + 30
            while "Waiting for another process" not in caplog.text and time.monotonic() < until:
                time.sleep(0.01)
            target.write_bytes(b"made by the other")
        waiting.result(timeout=30)
    assert str(target) in caplog.text
    assert server.requests == []
    assert target.read_bytes() == b"made by the other"
    assert tree(target.parent) == {"file.gz"}


def test_the_lock_of_a_killed_process_holds_nobody_up(url: str, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("file.gz.lock").touch()
    fetch(url, target)
    assert tree(target.parent) == {"file.gz"}


def test_a_server_that_is_busy_at_first_is_asked_again(url: str, target: Path, server: FileServer) -> None:
    server.busy = 2
    fetch(url, target)
    assert len(server.requests) == 3
    assert target.read_bytes() == CONTENT


def test_a_server_that_always_breaks_is_given_up(url: str, target: Path, server: FileServer) -> None:
    server.breaks = 1000
    with refused(url, target, "dataset=digits", f"{ATTEMPTS} times", "broke off"):
        fetch(url, target)
    assert len(server.requests) == ATTEMPTS
    assert tree(target.parent) == {"file.gz.part"}

    server.breaks = 0  # the next run goes on from there
    fetch(url, target)
    assert server.requests[-1].range is not None
    assert target.read_bytes() == CONTENT


def test_wrong_content_is_refused_and_removed(url: str, target: Path) -> None:
    with refused(url, target, "dataset=digits", "has the wrong MD5"):
        fetch(url, target, lambda path: "has the wrong MD5" if path.read_bytes() == CONTENT else None)
    assert tree(target.parent) == set()


def test_a_file_the_server_does_not_have_is_not_asked_for_twice(target: Path, server: FileServer) -> None:
    url = f"{server.url}/other.gz"
    with refused(url, "404", target, "dataset=digits"):
        fetch(url, target)
    assert len(server.requests) == 1
    assert tree(target.parent) == set()


def test_no_server_is_one_line(target: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/file.gz"
        with refused(url, "refused", target, "dataset=digits"):
            fetch(url, target)
    assert tree(target.parent) == set()


def test_no_network_is_one_line_at_once(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def no_such_name(host: str, *_: Any, **__: Any) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    url = "https://example.org/file.gz"
    with refused(url, "name resolution", target, "dataset=digits"):
        fetch(url, target)
    assert asked == ["example.org"]


def test_a_network_that_goes_away_is_not_blamed_on_the_disk(
    url: str, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = urllib.request.urlopen

    def unplugged(*arguments: Any, **options: Any) -> Any:
        answer = opened(*arguments, **options)

        def read(_: int) -> bytes:
            raise OSError(113, "No route to host")

        answer.read = read
        return answer

    monkeypatch.setattr(urllib.request, "urlopen", unplugged)
    with refused(f"cannot download {url}", "No route to host", target):
        fetch(url, target)


@pytest.mark.parametrize(
    "url", ["http://example.com/file.gz", "ftp://127.0.0.1/file.gz", "file:///etc/hostname", "example.com/file.gz"]
)
def test_only_https_or_this_machine(url: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("was opened"))
    with refused(f"dataset.url={url}", "https"):
        fetch(url, target)
    assert not target.parent.exists()


def test_a_redirection_may_not_leave_https_either(target: Path, server: FileServer) -> None:
    elsewhere = f"http://127.1:{server.server_port}/file.gz"  # this machine, under a name that is not known to be it
    server.files["/file.gz"] = CONTENT
    server.redirects["/moved.gz"] = elsewhere
    with refused(elsewhere, "https"):
        fetch(f"{server.url}/moved.gz", target)
    assert tree(target.parent) == set()


def test_a_redirection_is_followed(url: str, target: Path, server: FileServer) -> None:
    server.redirects["/moved.gz"] = url
    fetch(f"{server.url}/moved.gz", target)
    assert target.read_bytes() == CONTENT


def test_a_folder_that_cannot_be_made_is_named(url: str, tmp_path: Path, server: FileServer) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file" / "file.gz"
    with refused(f"cannot write {target}", "data_dir"):
        fetch(url, target)
    assert server.requests == []


def test_a_full_disk_is_named(url: str, target: Path) -> None:
    with full_disk(), refused(f"cannot write {target}.part", "data_dir"):
        fetch(url, target)
    assert not target.exists()


# --- archives -------------------------------------------------------------------------------------------------

FILES = {"set/a.png": b"a" * 700, "set/sub/b.png": b"b" * 900, "set/empty": b""}


def member(name: str, content: bytes = b"", **attributes: Any) -> tuple[tarfile.TarInfo, bytes]:
    information = tarfile.TarInfo(name)
    information.size = len(content)
    for attribute, value in attributes.items():
        setattr(information, attribute, value)
    return information, content


def tgz(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for information, content in members:
            tar.addfile(information, io.BytesIO(content))
    return stream.getvalue()


GOOD = [member("set", type=tarfile.DIRTYPE, mode=0o755), *(member(name, content) for name, content in FILES.items())]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    path = tmp_path / "data" / "set.tgz"
    path.parent.mkdir()
    path.write_bytes(tgz(*GOOD))
    return path


def unpacked(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_archive_is_unpacked_whole(archive: Path) -> None:
    folder = archive.with_name("set")
    unpack(archive, folder, 10_000, 10)
    assert unpacked(folder) == FILES
    assert {path.name for path in archive.parent.iterdir()} == {"set", "set.tgz"}


def test_what_an_earlier_process_left_is_not_mixed_in(archive: Path) -> None:
    leftover = archive.with_name("set.unpacking")
    leftover.mkdir()
    (leftover / "half.png").touch()
    unpack(archive, archive.with_name("set"), 10_000, 10)
    assert unpacked(archive.with_name("set")) == FILES
    assert not leftover.exists()


EVIL = {
    "above": member("../escaped", b"x"),
    "above by a detour": member("set/../../escaped", b"x"),
    "absolute": member("/tmp/vae_runner_escaped", b"x"),
    "link out": member("set/link", type=tarfile.SYMTYPE, linkname="/etc"),
    "link within": member("set/link", type=tarfile.SYMTYPE, linkname="a.png"),
    "hard link": member("set/link", type=tarfile.LNKTYPE, linkname="../../secret"),
    "device": member("set/null", type=tarfile.CHRTYPE, devmajor=1, devminor=3),
    "block device": member("set/disk", type=tarfile.BLKTYPE, devmajor=8),
    "pipe": member("set/pipe", type=tarfile.FIFOTYPE),
    "no name of a file": member("set/x", b"x", pax_headers={"path": "set/\0x"}),
}


@pytest.mark.parametrize("evil", EVIL.values(), ids=EVIL)
def test_a_member_that_could_leave_the_folder_is_refused(
    archive: Path, tmp_path: Path, evil: tuple[tarfile.TarInfo, bytes]
) -> None:
    (tmp_path / "secret").write_bytes(b"s")
    archive.write_bytes(tgz(*GOOD, evil, member("set/after", b"x")))
    before = tree(tmp_path)
    with refused(archive):
        unpack(archive, archive.with_name("set"), 10_000, 10)
    assert tree(tmp_path) == before
    assert not Path("/tmp/vae_runner_escaped").exists()
    assert (tmp_path / "secret").read_bytes() == b"s"


def test_a_link_and_a_file_through_it_are_refused(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    link = member("set/link", type=tarfile.SYMTYPE, linkname=str(tmp_path / "outside"))
    archive.write_bytes(tgz(link, member("set/link/escaped", b"x")))
    with refused(archive, "set/link"):
        unpack(archive, archive.with_name("set"), 10_000, 10)
    assert tree(tmp_path) == {"outside", "data", "data/set.tgz"}


@pytest.mark.parametrize(("max_bytes", "max_members"), [(1599, 10), (10_000, 3)], ids=["bytes", "members"])
def test_an_archive_larger_than_it_may_be_is_refused(archive: Path, max_bytes: int, max_members: int) -> None:
    with refused(archive, max_bytes, max_members):
        unpack(archive, archive.with_name("set"), max_bytes, max_members)
    assert tree(archive.parent) == {"set.tgz"}
    unpack(archive, archive.with_name("set"), 1600, 4)
    assert unpacked(archive.with_name("set")) == FILES


def test_a_bomb_is_refused_before_it_is_written(archive: Path) -> None:
    archive.write_bytes(tgz(member("bomb", bytes(5_000_000))))
    with full_disk(1000), refused(archive, "more than"):
        unpack(archive, archive.with_name("set"), 1_000_000, 10)


@pytest.mark.parametrize(
    "content", [b"", b"text", tgz(), tgz(*GOOD)[:100], tgz(*GOOD)[:10]], ids=["empty", "text", "hollow", "cut", "head"]
)
def test_a_damaged_archive_is_named(archive: Path, content: bytes) -> None:
    archive.write_bytes(content)
    with refused(archive, "get it again"):
        unpack(archive, archive.with_name("set"), 10_000, 10)
    assert tree(archive.parent) == {"set.tgz"}


NOISE = {f"set/{i}": random.Random(i).randbytes(300) + bytes(300) for i in range(4)}
NOISE_TGZ = tgz(*(member(name, content) for name, content in NOISE.items()))


@given(st.integers(0, len(NOISE_TGZ) - 1), st.integers(1, 255), st.booleans())
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_damage_anywhere_is_refused_or_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, position: int, change: int, cut: bool
) -> None:
    parent = tmp_path_factory.mktemp("archive")
    archive = parent / "set.tgz"
    content = bytearray(NOISE_TGZ)
    content[position] ^= change
    archive.write_bytes(content[:position] if cut else content)
    try:
        with refused(archive):
            unpack(archive, parent / "set", 10_000, 10)
    except pytest.fail.Exception:  # it was not refused
        assert unpacked(parent / "set") == NOISE
    else:
        assert tree(parent) == {"set.tgz"}


def test_a_full_disk_is_not_blamed_on_the_archive(archive: Path) -> None:
    folder = archive.with_name("set")
    with full_disk(), refused(f"cannot write {folder}", "make room"):
        unpack(archive, folder, 10_000, 10)
    assert tree(archive.parent) == {"set.tgz"}


def test_unpacked_files_belong_to_who_unpacked_them(archive: Path) -> None:
    archive.write_bytes(tgz(member("set/a.png", b"a", mode=0o4777, uid=12345, gid=12345, uname="x", gname="x")))
    unpack(archive, archive.with_name("set"), 10_000, 10)
    status = (archive.with_name("set") / "set" / "a.png").stat()
    assert status.st_uid == os.geteuid()
    assert not status.st_mode & 0o4022
