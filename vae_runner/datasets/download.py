"""Downloads that are whole or not there, and archives that stay in their folder."""

import gzip
import logging
import shutil
import ssl
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from vae_runner.console import Bar
from vae_runner.errors import UserError

log = logging.getLogger(__name__)

BLOCK = 1 << 18
ATTEMPTS = 5  # of one file; each goes on where the last one broke off
TIMEOUT = 30  # seconds without an answer or a byte
PATIENCE = 1.0  # seconds after which it is said that another process is waited for


class _BrokenTransferError(Exception):
    """A transfer that ended early; the next attempt may go on from there."""


def download(url: str, target: Path, check: Callable[[Path], str | None], advice: str) -> None:
    """Fetch `url` into `target`, with a progress bar; the file gets its name only when it is whole and `check` passes.

    A broken transfer is resumed where the server can (HTTP ranges), else restarted; what an earlier process left in
    `target.part` is resumed too. Of several processes that want the same file one fetches it, and the others wait.

    Args:
        url: an https address, or http on this machine.
        target: where the file goes.
        check: says what is wrong with the file, or None.
        advice: what else the user can do where the file cannot be had.

    Raises:
        UserError: the server cannot be reached or does not have the file, its content is not what it should be, or it
            cannot be written.
    """
    _check_address(url)
    part = target.with_name(target.name + ".part")
    by_hand = f"put it at {target} by hand, {advice}"
    with one_process(target):
        if target.exists():  # another process got it while this one waited
            return
        try:
            error = _fetch(url, part, check)
        except OSError as problem:
            raise UserError(f"cannot write {part} ({problem.strerror}): give another data_dir") from problem
        if error is not None:
            raise UserError(f"cannot download {url} ({error}): {by_hand}")
        complaint = check(part)
        if complaint is not None:
            part.unlink()
            raise UserError(f"what {url} gave {complaint}: {by_hand}")
        part.replace(target)


@contextmanager
def one_process(target: Path) -> Iterator[None]:
    """Of the processes that make `target`, one at a time is inside; the others wait, and should look for it again.

    Raises:
        UserError: the folder of `target` cannot be written.
    """
    lock_file = target.with_name(target.name + ".lock")
    lock = FileLock(lock_file)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=PATIENCE)
        except Timeout:
            log.info("Waiting for another process, which is fetching %s", target)
            lock.acquire()
    except OSError as problem:
        raise UserError(f"cannot write {lock_file} ({problem.strerror}): give another data_dir") from problem
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)  # while it is held: who waits for it notices, and makes a new one
        lock.release()


def _check_address(url: str) -> None:
    address = urllib.parse.urlsplit(url)
    if address.scheme == "https" or (
        address.scheme == "http" and address.hostname in ("127.0.0.1", "localhost", "::1")
    ):
        return
    raise UserError(f"dataset.url={url}: only https addresses are downloaded from")


def _fetch(url: str, part: Path, check: Callable[[Path], str | None]) -> str | None:
    """Get the whole of `url` into `part`, in several attempts; what kept us from it, or None."""
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            _transfer(url, part)
            return None
        except urllib.error.HTTPError as error:
            if error.code == 416:  # there is nothing beyond what we have: it is the whole file, or another one
                if error.headers.get("Content-Range") == f"bytes */{part.stat().st_size}" and check(part) is None:
                    return None
                part.unlink()
            elif error.code < 500:
                return f"the server answers {error.code} {error.reason}"
            problem = f"the server answers {error.code} {error.reason}"
        except urllib.error.URLError as error:
            problem = str(error.reason)
            if isinstance(error.reason, OSError) and not isinstance(error.reason, (TimeoutError, ConnectionError)):
                return problem  # no such host, no network: trying again will not help
        except (_BrokenTransferError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            problem = str(error) or type(error).__name__
    return f"{problem}, {ATTEMPTS} times"


def _transfer(url: str, part: Path) -> None:
    """One attempt: from where `part` ends to the end of the file."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "vae-runner"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        _check_address(answer.url)  # where redirections led
        resumed = answer.status == 206
        start = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = start + int(length) if length else None
        with (
            part.open("ab" if resumed else "wb") as file,
            Bar(f"Downloading {part.stem}", total, "bytes") as bar,
        ):
            bar.advance(start)
            for block in _blocks(answer):
                file.write(block)
                bar.advance(len(block))
            got = file.tell()
    if total is not None and got < total:
        raise _BrokenTransferError(f"the transfer broke off after {got} of {total} bytes")


def _blocks(answer: Any) -> Iterator[bytes]:
    """What the server sends. However the connection ends early, it is the transfer that broke, not the disk."""
    try:
        while block := answer.read(BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise _BrokenTransferError(str(error) or type(error).__name__) from error


def unpack(archive: Path, folder: Path, max_bytes: int, max_members: int) -> None:
    """Unpack a .tgz of plain files into `folder`, which gets its name only when everything is in it.

    Raises:
        UserError: the archive is damaged, too large, or has a member that is no plain file or folder below `folder`;
            or `folder` cannot be written.
    """
    working = folder.with_name(folder.name + ".unpacking")
    shutil.rmtree(working, ignore_errors=True)
    try:
        with (
            gzip.open(archive) as stream,
            tarfile.open(fileobj=stream, mode="r:") as tar,
            Bar(f"Unpacking {archive.name}", None, "files") as bar,
        ):
            size = count = 0
            for member in tar:
                size, count = size + member.size, count + 1
                if size > max_bytes or count > max_members:
                    raise UserError(
                        f"{archive} holds more than {max_members} files or {max_bytes} bytes: it is not unpacked"
                    )
                if not (member.isfile() or member.isdir()) or member.name.startswith("/"):
                    raise UserError(
                        f"{archive} holds {member.name!r}, which is no plain file in it: it is not unpacked"
                    )
                tar.extract(member, working, filter="data")
                bar.advance(1)
            while stream.read(BLOCK):  # to the end, where gzip's checksum is
                pass
            if count == 0:
                raise tarfile.ReadError("it holds nothing")
        working.replace(folder)
    except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
        if isinstance(error, OSError) and error.strerror:  # of the disk, not of the archive
            raise UserError(f"cannot write {folder} ({error.strerror}): make room, or give another data_dir") from error
        raise UserError(f"{archive} cannot be unpacked ({error}): delete it and get it again") from error
    finally:
        shutil.rmtree(working, ignore_errors=True)
