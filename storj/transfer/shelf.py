"""Memory for pieces of shards that were encrypted to be hashed and wait to be pushed.

An upload needs each shard twice: for its hash, and then, when a farmer was found for that hash, for
the push. What finds room here is read and encrypted once; the rest is read and encrypted again.
"""

from __future__ import annotations

import threading

__all__ = ('Shelf',)


class Shelf:
    """Buffers of one piece each, at most so many, used again and again; for all threads.

    Args:
        size (int): bytes of all of them.
        piece_size (int): bytes of one.
    """

    def __init__(self, size: int, piece_size: int) -> None:
        self._piece_size = piece_size
        self._most = size // piece_size
        #: Bytes that find room when nothing is there.
        self.size = self._most * piece_size
        self._made = 0
        self._free: list[bytearray] = []
        self._lock = threading.Lock()

    @property
    def room(self) -> int:
        """Bytes that find room now."""
        with self._lock:
            return (self._most - self._made + len(self._free)) * self._piece_size

    def take(self) -> bytearray | None:
        """Return a buffer, None if all are in use."""
        with self._lock:
            if self._free:
                return self._free.pop()
            if self._made == self._most:
                return None
            self._made += 1
        return bytearray(self._piece_size)

    def give(self, buffer: bytearray) -> None:
        """Take a buffer back; the memory is free again once all of them are."""
        with self._lock:
            self._free.append(buffer)
            if len(self._free) == self._made:
                self._free.clear()
                self._made = 0
