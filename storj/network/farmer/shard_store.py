"""The shards that a farmer has stored: how many bytes each has, and how many more fit.

Sizes and hashes are counted and checked here for every :class:`~storj.network.farmer.store.Store`;
who may store and fetch shards, and when one is dropped, is decided elsewhere.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, get_args

from storj.digest import ripemd160
from storj.exception import NetworkSetupError
from storj.network.farmer.store import (
    DamagedShardError,
    Found,
    Incoming,
    NoSpaceLeftError,
    Place,
    Reader,
    Store,
    StoreError,
    check_hash,
)
from storj.sharding import MIN_SHARD_SIZE

#: Bytes of the file system that a farmer leaves to others (protocol reference, section 8.1).
FREE_SPACE_KEPT = 262144000
#: Why a shard is in quarantine: nobody needs it, or its bytes are wrong.
Kind = Literal['ended', 'bad']
KINDS: tuple[Kind, ...] = get_args(Kind)

# Bytes that are read in one go.
_PIECE = 1024 * 1024


class ShardStore:
    """The shards in a store, up to a size.

    Methods may be called from any thread; those that look into the store wait for it.

    Args:
        store (Store): keeps the bytes.
        capacity (int | None): bytes that may be stored; None for as much as the store holds.
        keep_free (int): bytes to leave free in it.

    Attributes:
        capacity (int | None): as given.
        used (int): bytes stored.
        arriving (int): bytes that writers have taken and not stored yet.
        quarantined (dict[tuple[str, Kind], int]): bytes by hash and kind of what is in quarantine.
        keeps_data (bool): whether what is stored can be read again.
        is_local (bool): whether the store may be asked on an event loop.

    Raises:
        NetworkSetupError: If a local store cannot be listed.
    """

    def __init__(
        self, store: Store, capacity: int | None = None, *, keep_free: int = FREE_SPACE_KEPT
    ) -> None:
        self.capacity = capacity
        self.used = 0
        self.quarantined: dict[tuple[str, Kind], int] = {}
        self.arriving = 0
        self.keeps_data = store.keeps_data
        self.is_local = store.is_local
        # Bytes in quarantine that can be restored.
        self._waiting = 0
        self._store = store
        self._keep_free = keep_free
        self._sizes: dict[str, int] = {}
        self._lock = threading.Lock()
        if store.is_local:
            try:
                for place, name, size in store.listing():
                    self.count(name, size, None if place == 'stored' else place)
            except StoreError as error:
                raise NetworkSetupError(str(error)) from error

    def __contains__(self, data_hash: object) -> bool:
        return data_hash in self._sizes

    def __len__(self) -> int:
        return len(self._sizes)

    def expect(self, count: int, owner: str) -> None:
        """Refuse a store that is another one than the index was made with.

        Raises:
            NetworkSetupError: If it is, as a disk that is not mounted.
            StoreError: If it does not answer.
        """
        self._store.expect(count, owner)

    def sizes(self) -> dict[str, int]:
        """Return bytes by hash of all stored shards."""
        return dict(self._sizes)

    def size_of(self, data_hash: str) -> int | None:
        """Return the bytes of a shard that was stored, if it was."""
        return self._sizes.get(data_hash)

    def has_room(self, size: int, *, promised: int = 0) -> bool:
        """Return whether `size` bytes more can be stored.

        Args:
            size (int): bytes.
            promised (int): bytes that contracts speak of and that have not begun to arrive.
        """
        left = self.space_left()
        return left is None or size + promised <= left

    def space_left(self) -> int | None:
        """Return the bytes that can be stored still, 0 or less if none can; None for any number.

        Raises:
            StoreError: If the store does not say.
        """
        space = self._store_space()
        if self.capacity is None:
            return space
        # capacity |=== used ===|= arriving =|= quarantine/ended =|...... free ......|
        # What is damaged does not count: it is not the shard any more, and is removed soon.
        left = self.capacity - (self.used + self.arriving + self._waiting)
        return left if space is None else min(space, left)

    def _store_space(self) -> int | None:
        free = self._store.free()
        return None if free is None else free - self.arriving - self._keep_free - 1

    def shortage(self) -> str | None:
        """Return why no shards, or only small ones, can be stored; None if they can.

        Raises:
            StoreError: If the store does not say.
        """
        space = self._store_space()
        if space is not None and space <= 0:
            return f'its disk has less free than the {self._keep_free:,} B that stay free'
        left = self.space_left()
        if left is not None and left <= 0:
            return 'its size is used up'
        if self.capacity is not None and self.capacity < MIN_SHARD_SIZE:
            return (
                f'its size is less than {MIN_SHARD_SIZE:,} bytes, the smallest shard of large files'
            )
        return None

    # ------------------------------------------------------------- the bytes

    def listing(self) -> Iterator[tuple[Place, str, int]]:
        """Yield place, hash and bytes of everything that the store has; waits for it.

        Raises:
            StoreError: If the store refuses.
        """
        return self._store.listing()

    def find(self, data_hash: str) -> Found | None:
        """Return what the store says of a shard without reading it; None if it is not there.

        Raises:
            StoreError: If the store refuses, or has gone with all of its shards.
        """
        return self._store.find(data_hash)

    def check(self, data_hash: str) -> ShardCheck:
        """Begin to read a shard again, to find out whether it has its hash still.

        Raises:
            StoreError: If it is not there, or the store refuses.
        """
        return ShardCheck(self.reader(data_hash), data_hash)

    def writer(self, data_hash: str, size: int) -> ShardWriter:
        """Begin to store a shard.

        Args:
            data_hash (str): 40 hex characters.
            size (int): bytes it will have.

        Raises:
            NoSpaceLeftError: If it does not fit.
            StoreError: If the store refuses.
        """
        check_hash(data_hash)
        if not self.has_room(size):
            raise NoSpaceLeftError('No space left')
        incoming = self._store.create(data_hash, size)
        with self._lock:
            self.arriving += size
        return ShardWriter(self, incoming, data_hash, size)

    def reader(self, data_hash: str) -> Reader:
        """Open a stored shard.

        Raises:
            StoreError: If it is not there, or the store refuses.
        """
        return self._store.open(data_hash)

    def discard(self, data_hash: str) -> None:
        """Delete a shard that was kept and does not count; nothing happens if it is not there.

        Raises:
            StoreError: If the store refuses.
        """
        self._store.delete(data_hash, 'stored')
        self.forget(data_hash)

    # ------------------------------------------------------------- quarantine

    def quarantine(self, data_hash: str, kind: Kind) -> bool:
        """Move a shard out of the way; return whether there is something left of it.

        Raises:
            StoreError: If the store refuses.
        """
        size = self._store.move(data_hash, 'stored', kind)
        self.forget(data_hash)
        if size is not None:
            self.count(data_hash, size, kind)
        return size is not None

    def take_back(self, data_hash: str) -> int | None:
        """Move a shard that was dropped back; return its bytes, None if it is not in quarantine.

        Raises:
            StoreError: If the store refuses.
        """
        size = self._store.move(data_hash, 'ended', 'stored')
        self._uncount_quarantined(data_hash, 'ended')
        if size is not None:
            self.count(data_hash, size)
        return size

    def remove_quarantined(self, data_hash: str, kind: Kind) -> None:
        """Delete what is in quarantine; nothing happens if it is not there.

        Raises:
            StoreError: If the store refuses.
        """
        self._store.delete(data_hash, kind)
        self._uncount_quarantined(data_hash, kind)

    def kinds_in_quarantine(self, data_hash: str) -> list[Kind]:
        """Return the kinds by which a shard is in quarantine."""
        return [kind for kind in KINDS if (data_hash, kind) in self.quarantined]

    # ------------------------------------------------------------- accounts

    def count(self, data_hash: str, size: int, kind: Kind | None = None) -> None:
        """Count a shard as stored, or as in quarantine by its kind."""
        if kind is None:
            with self._lock:
                self.used += size - self._sizes.get(data_hash, 0)
                self._sizes[data_hash] = size
            return
        self._uncount_quarantined(data_hash, kind)
        with self._lock:
            self.quarantined[data_hash, kind] = size
            self._waiting += size if kind == 'ended' else 0

    def forget(self, data_hash: str) -> None:
        """Stop counting a shard that the store does not have."""
        with self._lock:
            self.used -= self._sizes.pop(data_hash, 0)

    def _uncount_quarantined(self, data_hash: str, kind: Kind) -> None:
        with self._lock:
            size = self.quarantined.pop((data_hash, kind), 0)
            self._waiting -= size if kind == 'ended' else 0

    def release(self, size: int) -> None:
        """Count bytes as arriving no longer."""
        with self._lock:
            self.arriving -= size


class ShardWriter:
    """A shard that is arriving.

    :meth:`write` and :meth:`finish` block and may be called in a worker thread, one after the
    other. :meth:`close` never waits: when a transfer is cancelled while a thread still writes, that
    thread clears up in the end.

    Attributes:
        data_hash (str): of the shard.
        received (int): bytes written so far.
    """

    def __init__(self, store: ShardStore, incoming: Incoming, data_hash: str, size: int) -> None:
        self._store = store
        self._incoming = incoming
        self.data_hash = data_hash
        self._size = size
        self._sha256 = hashlib.sha256()
        self._lock = threading.Lock()
        self._closed = self._cleared = False
        self._kept = False
        self.received = 0

    def write(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        """Append pieces of the shard.

        Raises:
            StoreError: If the store refuses, or the writer was closed meanwhile.
        """
        with self._writing():
            self._append(pieces)

    def finish(self, pieces: Sequence[bytes | bytearray | memoryview] = ()) -> bool:
        """Append the last pieces, and keep the shard if its hash is the one expected.

        Returns:
            bool: whether the hash was right.

        Raises:
            StoreError: If the store refuses, or the writer was closed meanwhile.
        """
        with self._writing():
            self._append(pieces)
            if ripemd160(self._sha256.digest()).hex() != self.data_hash:
                return False
            self._incoming.commit()
            self._kept = True
            return True

    def close(self, *, stored: bool = False) -> None:
        """Take no more, and throw away what was not kept; may be called twice.

        Args:
            stored (bool): whether to count a shard that was kept as stored.
        """
        if self._closed:
            return
        self._closed = True
        if stored and self._kept:
            self._store.count(self.data_hash, self.received)
        self._clear()

    def _append(self, pieces: Sequence[bytes | bytearray | memoryview]) -> None:
        for piece in pieces:
            self._sha256.update(piece)
            self._incoming.write(piece)
            self.received += len(piece)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._lock:
                if self._closed:
                    raise StoreError('The shard is no longer being written')
                yield
        finally:
            # Whoever of both comes last clears up: close() while the lock is held, or this.
            if self._closed:
                self._clear()

    def _clear(self) -> None:
        if not self._lock.acquire(blocking=False):
            return
        try:
            if not self._cleared:
                self._cleared = True
                self._incoming.abort()
                self._store.release(self._size)
        finally:
            self._lock.release()


class ShardCheck:
    """A shard that is read again. Blocking; for one thread at a time.

    Args:
        reader (Reader): the shard.
        data_hash (str): that it should have.
    """

    def __init__(self, reader: Reader, data_hash: str) -> None:
        self._reader = reader
        self._hash = data_hash
        self._sha256 = hashlib.sha256()
        self._unreadable = False

    def step(self) -> int:
        """Read and hash a piece; return its bytes, 0 at the end.

        Raises:
            StoreError: If the store refuses for another reason than a damage of the shard.
        """
        try:
            piece = self._reader.read(_PIECE)
        except DamagedShardError:
            self._unreadable = True
            return 0
        self._sha256.update(piece)
        return len(piece)

    def is_right(self) -> bool:
        """Return whether all that was read has the hash."""
        return not self._unreadable and ripemd160(self._sha256.digest()).hex() == self._hash

    def close(self) -> None:
        """Close the reader."""
        self._reader.close()
