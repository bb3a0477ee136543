"""Locks between processes, each of them a file. The end of a process releases all its locks.

The holder may remove the file of a lock: a waiting process notices that, and locks a new file.

The package ``filelock`` (3.32) could stand in for the last twenty lines here, with its function
``lock_descriptor``, at the price of an import of over 100 ms. Its lock of a path does other things:
the file stays after the release, one for every transfer that ever was; it is made also where
somebody only looks whether a transfer is under way; and where the system has no locks it becomes a
marker, which outlives a killed process.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

# What a lock that another holds is refused with, by flock and on Windows.
_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)


def lock(path: Path, *, wait: bool = False, create: bool = True) -> int | None:
    """Open and lock a file.

    Args:
        path (Path): of the file, in a folder that exists.
        wait (bool): whether to wait until nobody else holds it (on Windows, for 10 seconds).
        create (bool): whether to make the file if it is not there.

    Returns:
        int | None: a descriptor for :func:`unlock`; None if another holds it.

    Raises:
        OSError: If it cannot be opened, or the file system has no locks.
    """
    flags = os.O_RDWR | (os.O_CREAT if create else 0) | getattr(os, 'O_NOFOLLOW', 0)
    while True:
        descriptor = os.open(path, flags, 0o600)
        try:
            _lock_descriptor(descriptor, wait)
        except OSError as error:
            os.close(descriptor)
            if error.errno in _HELD:
                return None
            raise
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        # The former holder removed the file between our open and our lock.
        os.close(descriptor)


def hold(descriptor: int) -> bool:
    """Lock a file that is open already, until its last descriptor is closed.

    Returns:
        bool: False if another holds it.

    Raises:
        OSError: If the file system has no locks.
    """
    try:
        _lock_descriptor(descriptor, False)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise
    return True


def unlock(descriptor: int, remove: Path | None = None) -> None:
    """Release a lock.

    Args:
        descriptor (int): from :func:`lock`.
        remove (Path | None): its file, if that is to go too.
    """
    if remove is not None:
        # While it is locked, so that it is no other's. Windows removes no open file: there it
        # stays, empty.
        with contextlib.suppress(PermissionError):
            remove.unlink(missing_ok=True)
    _unlock_descriptor(descriptor)
    os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for a lock, hold it, and leave no file.

    Raises:
        OSError: If :func:`lock` raises it, or the lock is not free in time.
    """
    descriptor = lock(path, wait=True)
    if descriptor is None:
        raise OSError(errno.EBUSY, 'another process holds the lock')
    try:
        yield
    finally:
        unlock(descriptor, path)


try:
    import fcntl
except ImportError:  # Windows
    import msvcrt

    def _lock_descriptor(descriptor: int, wait: bool) -> None:
        mode = msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK  # type: ignore[attr-defined]
        msvcrt.locking(descriptor, mode, 1)  # type: ignore[attr-defined]

    def _unlock_descriptor(descriptor: int) -> None:
        """Leave it to the end of the descriptor."""

else:

    def _lock_descriptor(descriptor: int, wait: bool) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))

    def _unlock_descriptor(descriptor: int) -> None:
        # A process that was forked meanwhile has the descriptor too, and may keep it.
        fcntl.flock(descriptor, fcntl.LOCK_UN)
