"""Locks between processes, where the file system has them."""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
WARNED = "VAE_RUNNER_WARNED_OF_LOCKS"  # in the environment, so that the processes of a sweep do not repeat it


def take(path: Path, seconds: float = -1) -> BaseFileLock:
    """Take the lock that the file at `path` is, waiting for it so long, or as long as needed; returns what releases it.

    Where the file system has no locks, nothing is locked, which is said once.

    Raises:
        Timeout: another process has it.
        OSError: the file cannot be written.
    """
    lock = FileLock(path, timeout=seconds, fallback_to_soft=False)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        if WARNED not in os.environ:
            os.environ[WARNED] = "1"
            log.warning(
                "%s is on a file system without locks (%s): two commands that work there on the same run, sweep or "
                "data at the same time are not kept apart",
                path.parent, error.strerror,
            )  # fmt: skip
    return lock


@contextmanager
def taken(path: Path) -> Iterator[None]:
    """Wait for a lock, and have it inside.

    Raises:
        OSError: the file cannot be written.
    """
    lock = take(path)
    try:
        yield
    finally:
        lock.release()
