"""Locks between processes, where the file system has them."""

import errno
import fcntl
import logging
import os
from pathlib import Path
from typing import Self

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)
WARNED = "VAE_RUNNER_WARNED_OF_LOCKS"  # in the environment, so that the processes of a sweep do not repeat it


def is_held(path: Path) -> bool:
    """Return whether a process has the lock that is this file, or, where this user may not read it, might have it.

    Several processes may ask at the same time: none of them takes another for one that has it.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)  # until the file is closed
    except OSError as error:
        return error.errno not in NO_LOCKS
    finally:
        os.close(file)
    return False


class Lock:
    """A lock that is a file; as a context manager it waits as long as another process has it.

    Where the file system has no locks, nothing is locked, and the first lock warns of that.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = FileLock(path, fallback_to_soft=False)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    @property
    def is_locked(self) -> bool:
        """Return whether this process has the lock; never where the file system has none."""
        return self._lock.is_locked

    def acquire(self, timeout: float = -1) -> bool:
        """Wait for the lock for so many seconds, or without limit; return whether nothing stands against going on.

        Raises:
            OSError: the file cannot be written, or is a link, which someone else may have put there.
        """
        if self._path.is_symlink():
            raise OSError(errno.ELOOP, "it is a link", str(self._path))
        try:
            self._lock.acquire(timeout)
        except Timeout:
            return False
        except OSError as error:
            if error.errno not in NO_LOCKS:
                raise
            if WARNED not in os.environ:
                os.environ[WARNED] = "1"
                log.warning(
                    "%s is on a file system without locks (%s): two commands that work there on the same run, sweep "
                    "or data at the same time are not kept apart",
                    self._path.parent, error.strerror,
                )  # fmt: skip
        return True

    def release(self) -> None:
        """Let others have the lock; nothing happens where this process does not have it."""
        self._lock.release()
