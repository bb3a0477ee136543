"""Reading and writing a file at offsets, by several threads that share no position."""

from __future__ import annotations

import os
import threading

__all__ = ('Positional',)


class Positional:
    """An open descriptor; whoever made it closes it.

    Args:
        descriptor (int): of a regular file.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._lock = threading.Lock()

    if hasattr(os, 'preadv'):

        def _read(self, offset: int, buffer: memoryview) -> int:
            return os.preadv(self.descriptor, [buffer], offset)

        def _write(self, offset: int, data: memoryview) -> int:
            return os.pwrite(self.descriptor, data, offset)

    else:  # Windows reads and writes at the descriptor's position only.

        def _read(self, offset: int, buffer: memoryview) -> int:
            with self._lock:
                os.lseek(self.descriptor, offset, os.SEEK_SET)
                data = os.read(self.descriptor, len(buffer))
            buffer[: len(data)] = data
            return len(data)

        def _write(self, offset: int, data: memoryview) -> int:
            os.lseek(self.descriptor, offset, os.SEEK_SET)
            return os.write(self.descriptor, data)

    def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fill a buffer from an offset.

        Returns:
            int: bytes read; fewer than the buffer holds only at the end of the file.
        """
        done = 0
        while done < len(buffer):
            count = self._read(offset + done, buffer[done:])
            if not count:
                break
            done += count
        return done

    def write(self, offset: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of the data at an offset.

        One thread at a time: file systems let no two write to one file, and those that wait for
        the kernel's lock do so in a loop that takes their core from all others.
        """
        view = memoryview(data)
        with self._lock:
            while view:
                count = self._write(offset, view)
                offset += count
                view = view[count:]
