"""A store that keeps nothing, for benchmarks."""

from __future__ import annotations

from collections.abc import Iterator

from storj.network.farmer.store import Found, Place, Reader, StoreError, check_hash


class NullStore:
    """Takes bytes and throws them away.

    For benchmarks of uploads and of networks with many farmers: what is measured is everything but
    the disk. Shards are hashed and count as stored, so that a second upload is refused as one;
    reading is an error, and after a restart nothing is known of any.
    """

    keeps_data = False
    is_local = True

    def create(self, data_hash: str, size: int) -> _Void:
        """Take a shard."""
        check_hash(data_hash)
        return _Void()

    def open(self, data_hash: str) -> Reader:
        """Refuse: there is nothing to read."""
        check_hash(data_hash)
        raise StoreError('This farmer keeps no data')

    def find(self, data_hash: str) -> Found | None:
        """Return None: nothing is kept."""
        check_hash(data_hash)
        return None

    def move(self, data_hash: str, source: Place, target: Place) -> int | None:
        """Return None: nothing is kept."""
        check_hash(data_hash)
        return None

    def delete(self, data_hash: str, place: Place) -> None:
        """Do nothing."""
        check_hash(data_hash)

    def listing(self) -> Iterator[tuple[Place, str, int]]:
        """Yield nothing."""
        yield from ()

    def expect(self, count: int, owner: str) -> None:
        """Do nothing: no shards are expected."""

    def free(self) -> int | None:
        """Return None: any number of bytes fits."""
        return None


class _Void:
    """A shard that is thrown away as it comes."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass

    def commit(self) -> None:
        pass

    def abort(self) -> None:
        pass
