"""Atomic downloads, and archives that are unpacked into their folder alone."""

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
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import IO, cast

from vae_runner.errors import UserError
from vae_runner.files.locks import Lock
from vae_runner.runtime.console import progress_bar

log = logging.getLogger(__name__)

BLOCK = 1 << 18
ATTEMPTS = 5  # for one file; each continues where the last one broke off
TIMEOUT = 30  # seconds without an answer or a byte
PATIENCE = 1.0  # seconds of waiting for another process before a message says so
MAX_BYTES = 1 << 30  # of a file, where no other limit is given
MAX_DEPTH = 16  # of the folders in an archive: each member could make thousands
MAX_HEADER = 1 << 14  # bytes before a member's content; tarfile takes time that grows with their square
MAX_PADDING = 1 << 20  # bytes after the last member

# A damaged archive raises one of these, besides the errors of the disk; tarfile reads headers of headers recursively.
UNREADABLE_ARCHIVE = (
    tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, LookupError, RecursionError,
)  # fmt: skip


class _BrokenTransferError(Exception):
    """A transfer ended early; the next attempt may continue from there."""


class _TooLargeError(Exception):
    """A file has more bytes than it may have."""


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Checks every address on the way before it is requested, and does not read what comes with a redirection."""

    def __init__(self, first: str, plain: bool) -> None:
        self._from_here, self._plain = _is_here(first), plain

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> urllib.request.Request | None:
        _check_address(newurl, self._plain, from_here=self._from_here)
        fp.close()
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    url: str,
    target: Path,
    check: Callable[[Path], str | None],
    advice: str,
    max_bytes: int = MAX_BYTES,
    plain: bool = False,
) -> None:
    """Fetch `url` (https, or http on this machine) into `target`, which exists only when it is complete and checked.

    A broken transfer is resumed where the server can (HTTP ranges), else restarted, also one that an earlier process
    left in `target.part`. Of several processes that want the same file one fetches it, and the others wait. `check`
    returns what is wrong with the file, or None; `advice` is what else the user can do. With `plain` http is allowed
    from anywhere: of a file whose digest is checked, it makes no difference who gave it.

    Raises:
        UserError: the server cannot be reached or does not have the file, the file is larger than `max_bytes` or not
            what it should be, or it cannot be written.
    """
    _check_address(url, plain)
    part = target.with_name(target.name + ".part")
    by_hand = f"put it at {target} by hand, {advice}"
    with one_process(target):
        if target.exists():  # Another process has fetched it meanwhile.
            return
        try:
            problem = _fetch(url, part, check, max_bytes, plain)
        except OSError as error:
            raise UserError(f"cannot write {part} ({error.strerror}): give another data_dir") from error
        if problem is not None:
            raise UserError(f"cannot download {url} ({problem}): {by_hand}")
        if (problem := check(part)) is not None:
            part.unlink()
            raise UserError(f"what {url} gave {problem}: {by_hand}")
        part.replace(target)


@contextmanager
def one_process(target: Path) -> Iterator[None]:
    """Admit one process at a time of those that make `target`; the others wait, and must then look for it again.

    Raises:
        UserError: the folder of `target` cannot be written.
    """
    lock_file = target.with_name(target.name + ".lock")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = Lock(lock_file)
        if not lock.acquire(PATIENCE):
            log.info("Waiting for another process, which is fetching %s", target)
            lock.acquire()
    except OSError as problem:
        raise UserError(f"cannot write {lock_file} ({problem.strerror}): give another data_dir") from problem
    try:
        yield
    finally:
        lock_file.unlink(missing_ok=True)  # while it is held: whoever waits for it notices, and makes a new one
        lock.release()


def _check_address(url: str, plain: bool, *, from_here: bool = True) -> None:
    """Refuse what is not https, or http on this machine: a server elsewhere may not redirect to the latter.

    With `plain` any http is allowed but that redirection.
    """
    with suppress(ValueError):  # It is no address at all.
        scheme = urllib.parse.urlsplit(url).scheme
        if scheme == "https" or (scheme == "http" and (from_here if _is_here(url) else plain)):
            return
    raise UserError(f"dataset.url={url}: only https addresses are downloaded from")


def _is_here(url: str) -> bool:
    return urllib.parse.urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def _fetch(url: str, part: Path, check: Callable[[Path], str | None], max_bytes: int, plain: bool) -> str | None:
    """Download `url` into `part`, in several attempts; return what is wrong with the last one, or None."""
    problem = ""
    for _ in range(ATTEMPTS):
        try:
            _transfer(url, part, max_bytes, plain)
            return None
        except _TooLargeError:
            part.unlink(missing_ok=True)
            return f"it has more than {max_bytes:,} bytes"
        except urllib.error.HTTPError as error:
            if error.code == 416:  # There is nothing beyond `part`, which is the complete file, or another one.
                if error.headers.get("Content-Range") == f"bytes */{part.stat().st_size}" and check(part) is None:
                    return None
                part.unlink()
            elif error.code < 500:
                return f"the server answers {error.code} {error.reason}"
            problem = f"the server answers {error.code} {error.reason}"
        except urllib.error.URLError as error:
            problem = str(error.reason)
            if isinstance(error.reason, OSError) and not isinstance(error.reason, (TimeoutError, ConnectionError)):
                return problem  # There is no such host, or no network: trying again will not help.
        except (_BrokenTransferError, HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            problem = str(error) or type(error).__name__
        except ValueError as error:  # The host's name is invalid.
            return str(error)
    return f"{problem}, {ATTEMPTS} times"


def _transfer(url: str, part: Path, max_bytes: int, plain: bool) -> None:
    """Download, in one attempt, from where `part` ends to the end of the file."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"User-Agent": "vae-runner"})
    if have:
        request.add_header("Range", f"bytes={have}-")
    with urllib.request.build_opener(_Redirections(url, plain)).open(request, timeout=TIMEOUT) as answer:
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


def _blocks(answer: HTTPResponse) -> Iterator[bytes]:
    """Yield what the server sends; make any failure of the connection a broken transfer, unlike one of the disk."""
    try:
        while block := answer.read(BLOCK):
            yield block
    except (OSError, HTTPException) as error:
        raise _BrokenTransferError(str(error) or type(error).__name__) from error


class _Limited:
    """A stream that is not read beyond `limit`: tarfile would believe what a header says of its own length."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream
        self.limit = MAX_HEADER
        self.tell = stream.tell

    def allow(self, size: int) -> None:
        """Allow so many more bytes to be read from here."""
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
    """Open a .tgz; yield it, and the limited stream it is read from."""
    if not archive.is_file():
        raise tarfile.ReadError("it is no file")
    with gzip.open(archive) as stream:
        limited = _Limited(stream)
        with tarfile.open(fileobj=cast("IO[bytes]", limited), mode="r:") as tar:
            yield tar, limited


def unpack(archive: Path, folder: Path, max_bytes: int, max_members: int) -> None:
    """Unpack a .tgz of plain files into `folder`, which exists only when everything is in it.

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
                tar.members = []  # type: ignore[attr-defined]  # It would collect them all.
                stream.allow(MAX_HEADER)
                advance(1)
            stream.allow(MAX_PADDING)
            while stream.read(BLOCK):  # gzip's checksum is at the end
                pass
            if count == 0:
                raise tarfile.ReadError("it holds nothing")
        working.replace(folder)
    except (*UNREADABLE_ARCHIVE, OSError) as error:
        if isinstance(error, OSError) and error.strerror:  # It is about the disk, not the archive.
            raise UserError(f"cannot write {folder} ({error.strerror}): make room, or give another data_dir") from error
        raise UserError(f"{archive} cannot be unpacked ({error}): delete it and get it again") from error
    finally:
        shutil.rmtree(working, ignore_errors=True)


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    """Refuse a member that is no plain file, or no folder, below the archive's own."""
    parts = PurePosixPath(member.name).parts
    plain = (member.isfile() and parts and not member.issparse() and member.size >= 0) or member.isdir()
    if not plain or member.name.startswith("/") or ".." in parts:
        raise UserError(f"{archive} holds {member.name[:200]!r}, which is no plain file in it: it is not unpacked")
    if len(parts) > MAX_DEPTH:
        raise UserError(f"{archive} holds folders in folders, more than {MAX_DEPTH} deep: it is not unpacked")
