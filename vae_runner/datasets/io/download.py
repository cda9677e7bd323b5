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
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPMessage
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from filelock import Timeout

from vae_runner.errors import UserError
from vae_runner.files import locks
from vae_runner.runtime.console import progress_bar

log = logging.getLogger(__name__)

BLOCK = 1 << 18
ATTEMPTS = 5  # of one file; each goes on where the last one broke off
TIMEOUT = 30  # seconds without an answer or a byte
PATIENCE = 1.0  # seconds after which it is said that another process is waited for
MAX_BYTES = 1 << 30  # of a file, where no other limit is given
MAX_DEPTH = 16  # of the folders in an archive: each member could make thousands
MAX_HEADER = 1 << 14  # bytes before a member's content; tarfile's time for one grows with the square of them
MAX_PADDING = 1 << 20  # bytes after the last member

# What is raised on a damaged archive, besides the errors of the disk; tarfile reads headers before headers recursively.
UNREADABLE_ARCHIVE = (
    tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, LookupError, RecursionError,
)  # fmt: skip


class _BrokenTransferError(Exception):
    """A transfer that ended early; the next attempt may go on from there."""


class _TooLargeError(Exception):
    """There is more of a file than is wanted."""


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Every address on the way is checked before it is asked, and what comes with a redirection is not read."""

    def __init__(self, first: str) -> None:
        self._here = _is_here(first)

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        _check_address(newurl, from_here=self._here)
        fp.close()
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str, target: Path, check: Callable[[Path], str | None], advice: str, max_bytes: int = MAX_BYTES
) -> None:
    """Fetch `url` into `target`, with a progress bar; the file gets its name only when it is whole and `check` passes.

    A broken transfer is resumed where the server can (HTTP ranges), else restarted; what an earlier process left in
    `target.part` is resumed too. Of several processes that want the same file one fetches it, and the others wait.

    Args:
        url: an https address, or http on this machine.
        target: where the file goes.
        check: says what is wrong with the file, or None.
        advice: what else the user can do where the file cannot be had.
        max_bytes: what it may have.

    Raises:
        UserError: the server cannot be reached or does not have the file, its content is larger than or not what it
            should be, or it cannot be written.
    """
    _check_address(url)
    part = target.with_name(target.name + ".part")
    by_hand = f"put it at {target} by hand, {advice}"
    with one_process(target):
        if target.exists():  # another process got it while this one waited
            return
        try:
            error = _fetch(url, part, check, max_bytes)
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
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = locks.take(lock_file, PATIENCE)
        except Timeout:
            log.info("Waiting for another process, which is fetching %s", target)
            lock = locks.take(lock_file)
    except OSError as problem:
        raise UserError(f"cannot write {lock_file} ({problem.strerror}): give another data_dir") from problem
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)  # while it is held: who waits for it notices, and makes a new one
        lock.release()


def _check_address(url: str, *, from_here: bool = True) -> None:
    """Refuse what is not https, or http on this machine, where nobody else's server has led to it."""
    with suppress(ValueError):  # it is no address at all
        scheme = urllib.parse.urlsplit(url).scheme
        if scheme == "https" or (scheme == "http" and from_here and _is_here(url)):
            return
    raise UserError(f"dataset.url={url}: only https addresses are downloaded from")


def _is_here(url: str) -> bool:
    return urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def _fetch(url: str, part: Path, check: Callable[[Path], str | None], max_bytes: int) -> str | None:
    """Get the whole of `url` into `part`, in several attempts; what kept us from it, or None."""
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            _transfer(url, part, max_bytes)
            return None
        except _TooLargeError:
            part.unlink(missing_ok=True)
            return f"it has more than {max_bytes:,} bytes"
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
        except ValueError as error:  # a host whose name cannot be one
            return str(error)
    return f"{problem}, {ATTEMPTS} times"


def _transfer(url: str, part: Path, max_bytes: int) -> None:
    """One attempt: from where `part` ends to the end of the file."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "vae-runner"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.build_opener(_Redirections(url)).open(request, timeout=TIMEOUT) as answer:
        resumed = answer.status == 206
        start = have if resumed else 0
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdecimal() else None
        if total is not None and total > max_bytes:
            raise _TooLargeError
        with (
            part.open("ab" if resumed else "wb") as file,
            progress_bar(f"Downloading {part.stem}", total, "bytes") as advance,
        ):
            advance(start)
            for block in _blocks(answer):
                if file.tell() + len(block) > max_bytes:
                    raise _TooLargeError
                file.write(block)
                advance(len(block))
            got = file.tell()
    if total is not None and got < total:
        raise _BrokenTransferError(f"the transfer broke off after {got} of {total} bytes")


def _blocks(answer: Any) -> Iterator[bytes]:
    """Yield what the server sends. However the connection ends early, it is the transfer that broke, not the disk."""
    try:
        while block := answer.read(BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise _BrokenTransferError(str(error) or type(error).__name__) from error


class _Limited:
    """A stream that is read no further than to `limit`: tarfile believes what a header says of its own length."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self.limit = MAX_HEADER
        self.tell = stream.tell

    def allow(self, size: int) -> None:
        """From here so many bytes may be read, and no more."""
        self.limit = self.tell() + size

    def read(self, size: int) -> bytes:
        self._check(self.tell() + size, self.tell())
        return self._stream.read(size)

    def seek(self, position: int) -> int:
        self._check(position)
        return self._stream.seek(position)

    def _check(self, position: int, least: int = 0) -> None:
        if not least <= position <= self.limit:
            raise tarfile.ReadError("something in it that is no file is too long, or its length is none")


@contextmanager
def open_archive(archive: Path) -> Iterator[tuple[tarfile.TarFile, _Limited]]:
    """Open a .tgz; yield it, and the stream it is read from."""
    if not archive.is_file():
        raise tarfile.ReadError("it is no file")
    with gzip.open(archive) as stream:
        limited = _Limited(stream)
        with tarfile.open(fileobj=cast("IO[bytes]", limited), mode="r:") as tar:
            yield tar, limited


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
            open_archive(archive) as (tar, stream),
            progress_bar(f"Unpacking {archive.name}", None, "files") as advance,
        ):
            size = count = 0
            while member := tar.next():
                size, count = size + member.size, count + 1
                if size > max_bytes or count > max_members:
                    raise UserError(
                        f"{archive} holds more than {max_members} files or {max_bytes} bytes: it is not unpacked"
                    )
                _check_member(archive, member)
                stream.allow(member.size)
                tar.extract(member, working, filter="data")
                tar.members = []  # type: ignore[attr-defined]  # it would remember them all
                stream.allow(MAX_HEADER)
                advance(1)
            stream.allow(MAX_PADDING)
            while stream.read(BLOCK):  # to the end, where gzip's checksum is
                pass
            if count == 0:
                raise tarfile.ReadError("it holds nothing")
        working.replace(folder)
    except (*UNREADABLE_ARCHIVE, OSError) as error:
        if isinstance(error, OSError) and error.strerror:  # of the disk, not of the archive
            raise UserError(f"cannot write {folder} ({error.strerror}): make room, or give another data_dir") from error
        raise UserError(f"{archive} cannot be unpacked ({error}): delete it and get it again") from error
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    """Refuse what is no plain file or folder in its place."""
    parts = PurePosixPath(member.name).parts
    plain = (member.isfile() and parts and not member.issparse() and member.size >= 0) or member.isdir()
    if not plain or member.name.startswith("/") or ".." in parts:
        raise UserError(f"{archive} holds {member.name[:200]!r}, which is no plain file in it: it is not unpacked")
    if len(parts) > MAX_DEPTH:
        raise UserError(f"{archive} holds folders in folders, more than {MAX_DEPTH} deep: it is not unpacked")
