"""Behaviour on a full disk: nothing more is stored, and stored files can still be read.

Reading also writes a little: which farmer issued which token, where a farmer listens. For
that a file keeps some bytes of the disk, and is removed when nothing else is left. Its size is
small beside a network's files, so it is not for storing more.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import sqlite3
from pathlib import Path

from storj.exception import NetworkSetupError

logger = logging.getLogger(__name__)

# Of file systems that reserve nothing ahead, as over FUSE, or ZFS.
_NO_RESERVING = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
_FULL = (errno.ENOSPC, errno.EDQUOT)
# Of PostgreSQL: disk_full.
_SQLSTATE = '53100'
# Bytes with which databases can be opened, and farmers make themselves known.
_LEAST = 1024 * 1024


def is_full(error: BaseException | None) -> bool:
    """Return whether an error, or what caused it, is that a disk or a database is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return True
        if isinstance(error, sqlite3.OperationalError) and 'is full' in str(error):
            return True
        if getattr(error, 'sqlstate', None) == _SQLSTATE:
            return True
        error = error.__cause__
    return False


class Reserve:
    """Bytes of a disk that are kept for what must be written on a full one.

    Args:
        folder (Path): of the network.
        size (int): bytes to keep; 0 for none, so that there is always space.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self._path = folder / 'reserve'
        self._size = size

    def open(self) -> None:
        """See to it that there is space to start.

        Raises:
            NetworkSetupError: If the disk is full, and the reserve used up by somebody else.
        """
        if not self.has_space() and shutil.disk_usage(self._path.parent).free < _LEAST:
            raise NetworkSetupError(
                f'{self._path.parent}: the disk is full; free {_LEAST} bytes at least'
            )

    def has_space(self) -> bool:
        """Return whether more can be stored; give the bytes free, or take them again.

        Files are taken again when there is three times as much space, so that this does not go to
        and fro.
        """
        if not self._size:
            return True
        free = shutil.disk_usage(self._path.parent).free
        if self._path.exists():
            if free >= self._size:
                return True
            logger.error(
                '%s: the disk is full; stored files are read, and nothing is stored until there is'
                ' space',
                self._path.parent,
            )
            self._path.unlink()
        elif free >= 3 * self._size:
            return self._keep()
        return False

    def _keep(self) -> bool:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _take(descriptor, self._size)
        except OSError:
            self._path.unlink()
            return False
        finally:
            os.close(descriptor)
        return True


def _take(descriptor: int, size: int) -> None:
    """Take bytes of the disk for an empty file: reserved at once, or written where that fails.

    Raises:
        OSError: If there is no space.
    """
    try:
        if hasattr(os, 'posix_fallocate'):
            os.posix_fallocate(descriptor, 0, size)
            return
    except OSError as error:
        if error.errno not in _NO_RESERVING:
            raise
    left = size
    while left:
        # Zeros take no space where files are compressed.
        left -= os.write(descriptor, os.urandom(min(left, _LEAST)))
    os.fsync(descriptor)
