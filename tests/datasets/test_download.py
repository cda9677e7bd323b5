import gzip
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
from http.client import HTTPMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import examples
from tests.datasets.conftest import FileServer, damage, full_disk, fuzzed, measured, refused, tree
from vae_runner.datasets.io import download as download_module
from vae_runner.datasets.io.download import ATTEMPTS, BLOCK, download, one_process, unpack

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


def test_a_leftover_that_is_longer_than_the_file_is_deleted(url: str, target: Path, server: FileServer) -> None:
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
from vae_runner.datasets.io.download import download
download(sys.argv[1], pathlib.Path(sys.argv[2]), lambda _: None, "")
"""


def test_of_several_processes_one_fetches_the_file(url: str, target: Path, server: FileServer) -> None:
    server.breaks = 2  # while the first continues where it broke off, the others are there
    processes = [subprocess.Popen([sys.executable, "-c", DOWNLOAD, url, str(target)]) for _ in range(4)]
    assert [process.wait(timeout=60) for process in processes] == [0] * 4
    assert target.read_bytes() == CONTENT
    assert tree(target.parent) == {"file.gz"}
    assert len(server.requests) == 3


def test_waiting_for_another_process_is_logged_and_its_file_is_found(
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

    server.breaks = 0  # the next run continues from there
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
    opened = urllib.request.OpenerDirector.open

    def unplugged(*arguments: Any, **options: Any) -> Any:
        answer = opened(*arguments, **options)

        def read(_: int) -> bytes:
            raise OSError(113, "No route to host")

        answer.read = read
        return answer

    monkeypatch.setattr(urllib.request.OpenerDirector, "open", unplugged)
    with refused(f"cannot download {url}", "No route to host", target):
        fetch(url, target)


@pytest.mark.parametrize(
    "url", ["http://example.com/file.gz", "ftp://127.0.0.1/file.gz", "file:///etc/hostname", "example.com/file.gz"]
)
def test_only_https_or_this_machine(url: str, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", lambda *_, **__: pytest.fail("was opened"))
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


@pytest.mark.parametrize("plain", [False, True])
def test_a_redirection_from_elsewhere_may_not_lead_to_this_machine(plain: bool) -> None:
    first, here = "https://example.org/file.gz", "http://127.0.0.1:9/private"
    redirections = download_module._Redirections(first, plain)
    with refused(here, "https"):
        redirections.redirect_request(urllib.request.Request(first), io.BytesIO(), 302, "Found", HTTPMessage(), here)


def test_http_from_elsewhere_is_for_what_is_checked_against_a_digest(target: Path, server: FileServer) -> None:
    elsewhere = f"http://127.1:{server.server_port}/file.gz"  # this machine, under a name that is not known to be it
    server.files["/file.gz"] = CONTENT
    with refused(elsewhere, "https"):
        download(elsewhere, target, lambda _: None, "")
    download(elsewhere, target, lambda _: None, "", plain=True)
    assert target.read_bytes() == CONTENT
    with refused("dataset.url=ftp://x.invalid/file.gz", "https"):
        download("ftp://x.invalid/file.gz", target, lambda _: None, "", plain=True)


def test_no_redirection_on_the_way_may_leave_https(url: str, target: Path, server: FileServer) -> None:
    server.redirects["/moved.gz"] = f"http://127.1:{server.server_port}/again.gz"
    server.redirects["/again.gz"] = url  # the end of the way would do
    with refused("127.1", "https"):
        fetch(f"{server.url}/moved.gz", target)
    assert [request.path for request in server.requests] == ["/moved.gz"]


@pytest.mark.parametrize("elsewhere", ["file:///etc/hostname", "ftp://127.0.0.1/file.gz", "http://[", "//x.invalid/"])
def test_a_redirection_to_something_else_is_one_line(target: Path, server: FileServer, elsewhere: str) -> None:
    server.redirects["/moved.gz"] = elsewhere
    with refused("http"):
        fetch(f"{server.url}/moved.gz", target)
    assert tree(target.parent) == set()


@pytest.mark.parametrize("url", ["https://[", "https://a..b/file.gz", f"https://{'a' * 64}.invalid/x", "https://", ""])
def test_what_is_no_address_is_one_line(url: str, target: Path) -> None:
    with refused(url, "https" if "//[" in url or not url else ""):
        fetch(url, target)


def test_a_redirection_in_a_circle_is_one_line(target: Path, server: FileServer) -> None:
    server.redirects["/moved.gz"] = f"{server.url}/moved.gz"
    with refused(f"{server.url}/moved.gz"):
        fetch(f"{server.url}/moved.gz", target)
    assert len(server.requests) < 20


def test_a_redirection_that_does_not_end_is_not_read(url: str, target: Path, server: FileServer) -> None:
    server.redirects["/moved.gz"] = f"{server.url}/nothing.gz"
    server.endless = True
    with refused("404"):
        fetch(f"{server.url}/moved.gz", target)


@pytest.mark.parametrize("kind", ["says so", "does not say so", "goes on for ever"])
def test_a_file_larger_than_it_may_be_is_not_fetched(url: str, target: Path, server: FileServer, kind: str) -> None:
    server.lengths = kind == "says so"
    server.endless = kind == "goes on for ever"
    with refused(url, "more than 100,000 bytes", target, "dataset=digits"):
        download(url, target, lambda _: pytest.fail("was checked"), ADVICE, 100_000)
    assert tree(target.parent) == set()
    assert len(server.requests) == 1
    if not server.endless:
        download(url, target, lambda _: None, ADVICE, len(CONTENT))
        assert target.read_bytes() == CONTENT


def test_what_was_left_of_a_file_that_is_too_large_is_removed(url: str, target: Path, server: FileServer) -> None:
    target.parent.mkdir()
    target.with_name("file.gz.part").write_bytes(CONTENT[:200_000])
    with refused("more than 100,000 bytes"):
        download(url, target, lambda _: None, ADVICE, 100_000)
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
    "the folder itself": member(".", b"x"),
    "the folder itself by a detour": member("set/..", b"x"),
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


def raw_tgz(*blocks: bytes) -> bytes:
    """A gzip file of these, each packed once however often it comes."""
    packed = {block: gzip.compress(block) for block in set(blocks)}
    return b"".join(packed[block] for block in blocks)


def head(name: str, kind: bytes, size: int) -> bytes:
    information = tarfile.TarInfo(name)
    information.type, information.size = kind, size
    return information.tobuf(tarfile.GNU_FORMAT)


def sparse(entries: int) -> bytes:
    """A member that is said to be all holes, in so many blocks of a map that goes on."""
    first = bytearray(head("set/sparse", tarfile.GNUTYPE_SPARSE, 0))
    first[482] = 1  # the map goes on in the next block
    first[148:156] = b" " * 8
    first[148:156] = b"%06o\0 " % sum(first)
    entry = b"%011o\0" % 1 + b"%011o\0" % 1
    return bytes(first) + (entry * 21 + b"\1" + bytes(7)) * entries


ZEROS = bytes(1 << 20)
HOSTILE: dict[str, Callable[[], bytes]] = {
    "a name of 4 GB": lambda: raw_tgz(head("x", tarfile.GNUTYPE_LONGNAME, 4 << 30), *[ZEROS] * 4096),
    "a pax header of 4 GB": lambda: raw_tgz(head("x", tarfile.XHDTYPE, 4 << 30), *[ZEROS] * 4096),
    "a pax header of less than nothing": lambda: raw_tgz(head("x", tarfile.XHDTYPE, -513), *[ZEROS] * 4096),
    "a pax header of a million digits": lambda: raw_tgz(head("x", tarfile.XHDTYPE, 1 << 20), b"1" * (1 << 20)),
    "a pax header of 10,000 digits": lambda: raw_tgz(head("x", tarfile.XHDTYPE, 10_240), b"1" * 10_240, bytes(1024)),
    "10,000 headers before one member": lambda: raw_tgz(
        *[head("x", tarfile.GNUTYPE_LONGNAME, 1) + b"y" + bytes(511)] * 10_000
    ),
    "a map of holes without end": lambda: raw_tgz(sparse(2000), *[sparse(2000)[512:]] * 200),
    "a map of holes that is cut off": lambda: raw_tgz(sparse(1)[:700]),
    "4 GB after the end": lambda: raw_tgz(head("set/x", tarfile.REGTYPE, 0), bytes(1024), *[ZEROS] * 4096),
    "a file of 4 GB": lambda: raw_tgz(head("set/x", tarfile.REGTYPE, 4 << 30), *[ZEROS] * 4096),
    "a file of less than nothing": lambda: raw_tgz(head("set/x", tarfile.REGTYPE, -(1 << 40)), bytes(1024)),
    "files by the million": lambda: raw_tgz(*[head("set/x", tarfile.REGTYPE, 0) * 1000] * 1000),
    "folders in folders": lambda: tgz(member("a/" * 1500 + "x", b"x")),
    "a sparse file of 1 TB": lambda: raw_tgz(sparse(1), bytes(1024)),
}


def test_a_hostile_archive_takes_neither_memory_nor_time_and_leaves_nothing(tmp_path: Path) -> None:
    paths = [tmp_path / f"{kind}.tgz" for kind in HOSTILE]
    for path, make in zip(paths, HOSTILE.values(), strict=True):
        path.write_bytes(make())
    imports = (
        "from vae_runner.datasets.io.download import unpack\nfrom vae_runner.datasets.cartoon import _check_archive"
    )
    outcomes = measured(
        paths, "_check_archive(path) and 0 or unpack(path, path.with_suffix(''), 10**9, 10_000)", imports
    )
    for path, outcome in zip(paths, outcomes, strict=True):
        assert outcome.said.startswith(f"{path} ")
        assert outcome.megabytes < 100
        assert outcome.seconds < 10
    assert tree(tmp_path) == {path.name for path in paths}


def test_what_is_no_file_is_no_archive(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "set.tgz")
    with refused(tmp_path / "set.tgz", "no file"):
        unpack(tmp_path / "set.tgz", tmp_path / "set", 10_000, 10)


def test_names_and_headers_as_long_as_they_are_in_practice_are_unpacked(archive: Path) -> None:
    name = "set/" + "n" * 200
    archive.write_bytes(tgz(*GOOD, member(name, b"x", pax_headers={"comment": "words " * 1000})))
    unpack(archive, archive.with_name("set"), 10_000, 10)
    assert unpacked(archive.with_name("set")) == FILES | {name: b"x"}


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
@settings(max_examples=examples(100), deadline=None, derandomize=True, database=None)
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


@given(st.booleans(), st.data())
@fuzzed(150)
def test_any_damage_to_an_archive_is_refused_or_does_not_matter(
    tmp_path_factory: pytest.TempPathFactory, inside: bool, data: st.DataObject
) -> None:
    parent = tmp_path_factory.mktemp("archive")
    archive = parent / "set.tgz"
    # Inside: of the headers themselves, under a checksum of gzip that fits. What was said then is what is done.
    content = gzip.decompress(NOISE_TGZ) if inside else NOISE_TGZ
    content = data.draw(damage(content, head=512))
    archive.write_bytes(gzip.compress(content, 1) if inside else content)
    try:
        with refused(archive):
            unpack(archive, parent / "set", 10_000, 10)
    except pytest.fail.Exception:  # it was not refused
        if not inside:
            assert unpacked(parent / "set") == NOISE
        assert {path.name for path in parent.iterdir()} == {"set", "set.tgz"}
        assert not any(path.is_symlink() for path in parent.rglob("*"))
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
