"""Temporary files without a name: parity, sources that can be read only once, shards of downloads.

What lies in them is ciphertext, or data that is the user's own to read: the file is made with mode
0600 and unlinked at once, so nobody else can open it and a killed process leaves nothing behind.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable
from typing import NoReturn

from storj.exception import IntegrityError
from storj.shortage import shortage
from storj.transfer.pointers import StoredShard
from storj.transfer.positional import Positional

__all__ = ('Place', 'ShardSpool', 'Spool', 'raise_disk_error')

#: Takes a piece of a shard: its position within the shard, and the bytes, valid during the call.
Place = Callable[[int, memoryview], object]


def raise_disk_error(error: OSError, place: str) -> NoReturn:
    """Raise what a local file that could not be written means; called where it is handled."""
    missing = shortage(error, place)
    if missing is not None:
        raise missing from error
    # Not from itself: who follows the causes would never come to an end.
    raise error


class Spool:
    """A sparse temporary file that several threads write and read at offsets.

    Args:
        folder (str | os.PathLike | None): where; the system's temporary folder by default.

    Attributes:
        size (int): bytes up to the end of what was written.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        self._folder = os.fspath(folder) if folder is not None else tempfile.gettempdir()
        try:
            # Closed by `close`, a clean-up of the transfer.
            self._file = tempfile.TemporaryFile(buffering=0, dir=self._folder)  # noqa: SIM115
        except OSError as error:
            raise_disk_error(error, self._folder)
        self._positional = Positional(self._file.fileno())
        self._lock = threading.Lock()
        self.size = 0

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write at an offset.

        Raises:
            ResourceError: If the disk is full.
        """
        try:
            self._positional.write(offset, data)
        except OSError as error:
            raise_disk_error(error, self._folder)
        with self._lock:
            self.size = max(self.size, offset + len(data))

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the buffer from an offset.

        Raises:
            IntegrityError: if nothing was written there.
        """
        if self._positional.read_into(offset, buffer) < len(buffer):
            raise IntegrityError('a temporary file is shorter than what was written to it')

    def check_unchanged(self) -> bool:
        """Return True: nobody else can reach the file."""
        return True

    def close(self) -> None:
        """Give the space back."""
        self._file.close()


class ShardSpool:
    """Whole shards as they are stored at farmers, in a spool that is made when one comes.

    Safe to use from all threads.

    Args:
        folder (str | os.PathLike | None): as of :class:`Spool`.
        slot_size (int): bytes of the longest shard. The space of a shard that is dropped is the
            next one's.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, slot_size: int) -> None:
        self._folder = folder
        self._slot_size = slot_size
        self._lock = threading.Lock()
        self._spool: Spool | None = None
        self._slots: dict[int, int] = {}
        self._free: list[int] = []

    def place(self, shard: StoredShard) -> Place:
        """Return what takes a shard.

        Raises:
            ResourceError: If the disk is full.
        """
        with self._lock:
            if self._spool is None:
                self._spool = Spool(self._folder)
            spool = self._spool
            if shard.index not in self._slots:
                self._slots[shard.index] = self._free.pop() if self._free else len(self._slots)
            start = self._slots[shard.index] * self._slot_size

        def put(position: int, view: memoryview) -> None:
            spool.write(start + position, view)

        return put

    def read(self, shard: StoredShard, position: int, buffer: memoryview) -> None:
        """Fill the buffer with a piece of a shard.

        Raises:
            IntegrityError: If nothing was written there.
        """
        with self._lock:
            spool, slot = self._spool, self._slots[shard.index]
        if spool is None:
            raise IntegrityError('a temporary file is gone')
        spool.read_into(slot * self._slot_size + position, buffer)

    def drop(self, shard: StoredShard) -> None:
        """Forget a shard."""
        with self._lock:
            slot = self._slots.pop(shard.index, None)
            if slot is not None:
                self._free.append(slot)

    def close(self) -> None:
        """Give the space back."""
        with self._lock:
            if self._spool is not None:
                self._spool.close()
